package breaker

// notice is what is to be told once no lock is held.
type notice struct {
	group   *Group
	key     string
	change  Change
	changed bool
	room    bool
}

func (n notice) tell() {
	if n.changed {
		n.group.changed(n.change)
	}
	if n.room {
		n.group.room(n.key)
	}
}

// told is what of a circuit makes a change when it is another.
type told struct {
	generation uint64
	state      State
	held       bool
	next       int64 // Unix milliseconds, which is as exact as the stores are
}

func tell(c *Circuit) told {
	return told{generation: c.Generation, state: c.State, held: c.Held, next: c.NextAttemptTime.UnixMilli()}
}

// note makes the notice of an effect that this instance had upon its own
// circuit.
func (b *Breaker) note(e Effect) notice { return b.noteOwn(&b.circuit, e) }

// noteOwn makes the notice of an effect that this instance had, and of which c
// came.
func (b *Breaker) noteOwn(c *Circuit, e Effect) notice {
	n := notice{group: b.group, key: b.key, room: e.Written && (e.Changed || c.State == HalfOpen)}
	if e.Changed {
		n.changed, n.change = true, b.change(c, e.From)
		n.change.Own = true
		if c.Generation >= b.told.generation {
			b.told = tell(c)
		}
	}
	return n
}

// noteSeen makes the notice of a circuit that another instance brought about.
func (b *Breaker) noteSeen() notice {
	c, before, now := &b.circuit, b.told, tell(&b.circuit)
	b.told = now
	n := notice{group: b.group, key: b.key, room: c.State != Open || before != now}
	now.generation = before.generation
	if before != now {
		n.changed, n.change = true, b.change(c, before.state)
	}
	return n
}

func (b *Breaker) change(c *Circuit, from State) Change {
	return Change{
		Key: b.key, From: from, To: c.State, Cause: c.Cause, Note: c.Note, Generation: c.Generation,
		At: b.group.local(c.ChangedAt), NextAttempt: b.group.local(c.NextAttemptTime), Held: c.Held,
	}
}
