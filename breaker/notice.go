package breaker

// notice holds the arguments of callbacks that are to be called once no lock is held.
type notice struct {
	group  *Group
	key    string
	change *Change // nil if nothing changed
	freed  bool
}

func (n notice) deliver() {
	if n.change != nil {
		n.group.changed(*n.change)
	}
	if n.freed {
		n.group.freed(n.key)
	}
}

// notified holds the fields of a circuit whose change is worth a notification.
type notified struct {
	generation uint64
	state      State
	held       bool
	next       int64 // Unix milliseconds, the precision of the stores
}

func fieldsOf(c *Circuit) notified {
	return notified{generation: c.Generation, state: c.State, held: c.Held, next: c.NextAttemptTime.UnixMilli()}
}

// note returns the notice of a change of the local circuit by this instance.
func (b *Breaker) note(e Effect) notice { return b.noteOwn(&b.circuit, e) }

// noteOwn returns the notice of a change by this instance that resulted in c.
func (b *Breaker) noteOwn(c *Circuit, e Effect) notice {
	n := notice{group: b.group, key: b.key, freed: e.Written && (e.Changed || c.State == HalfOpen)}
	if e.Changed {
		n.change = b.change(c, e.From)
		n.change.Own = true
		if c.Generation >= b.lastNotified.generation {
			b.lastNotified = fieldsOf(c)
		}
	}
	return n
}

// noteSeen returns the notice of a change by another instance.
func (b *Breaker) noteSeen() notice {
	c, before, now := &b.circuit, b.lastNotified, fieldsOf(&b.circuit)
	b.lastNotified = now
	n := notice{group: b.group, key: b.key, freed: c.State != Open || before != now}
	now.generation = before.generation
	if before != now {
		n.change = b.change(c, before.state)
	}
	return n
}

func (b *Breaker) change(c *Circuit, from State) *Change {
	operator := ""
	if c.Cause == c.Operated.Action {
		operator = c.Operated.By
	}
	return &Change{
		Key: b.key, From: from, To: c.State, Cause: c.Cause, Operator: operator, Note: c.Note, Error: c.LastError, Generation: c.Generation,
		At: b.group.local(c.ChangedAt), NextAttempt: b.group.local(c.NextAttemptTime), Held: c.Held,
	}
}
