package proof

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rebound-mq/rebound/events"
)

// Class is the kind of a violation.
type Class string

// The classes of violations.
const (
	Lost      Class = "lost"      // acknowledged, but neither ended nor waiting
	Doubled   Class = "doubled"   // a run with more than one end
	Early     Class = "early"     // an attempt before the decided time
	Stuck     Class = "stuck"     // still waiting long after the last fault
	Unmarked  Class = "unmarked"  // an attempt repeated without Retry-Repeated
	Excessive Class = "excessive" // more attempts than the policy allows
	Wrong     Class = "wrong"     // an outcome that contradicts the target's answers
	Stranger  Class = "stranger"  // an event about an operation that nobody submitted
	Altered   Class = "altered"   // a payload that is not the submitted one
	OverLimit Class = "over"      // more at once, or in a minute, than a limit allows
	Unpaused  Class = "unpaused"  // an attempt while its key was paused
	BadLetter Class = "letter"    // a dead letter that is missing, unreadable or unfounded
	Leaked    Class = "leaked"    // memory or goroutines that were not released
	Exited    Class = "exited"    // a process that exited by itself
)

// Classes lists the classes by severity.
var Classes = []Class{Lost, Doubled, Early, Stuck, Unmarked, Excessive, Wrong, Stranger, Altered, OverLimit, Unpaused, BadLetter, Leaked, Exited}

// Violation is a promise broken in a history.
type Violation struct {
	Class Class
	// ID is the operation's id, empty if the violation concerns no operation.
	ID     string
	Detail string
}

const (
	// earlySlack is how long before the decided time an attempt may reach the target: events have
	// times in microseconds, and the clock is read at different moments.
	earlySlack = 20 * time.Millisecond
	// sameMoment is the time within which the order of two deliveries of an attempt is unknown,
	// and lateSlack how long after its instance is thawed a delivery that was on its way may
	// reach the target.
	sameMoment = 50 * time.Millisecond
	lateSlack  = 500 * time.Millisecond
	// changeSlack is how long a breaker's change may take to be known everywhere, and pauseSlack how
	// long a pause may, and a request that was on its way.
	pauseSlack  = time.Second
	changeSlack = 100 * time.Millisecond
)

// run is one run of an operation, from its submission or replay to its outcome.
type run struct {
	id     string
	number int
}

// checker is an indexed record.
type checker struct {
	record      *Record
	submissions map[string]*Submission
	attempts    map[run][]*Attempt
	outcomes    map[run][]*Published[events.Outcome]
	due         map[attemptOf]*Published[events.Scheduled]
	dead        map[string]*DeadLetter
	waiting     map[string]*Waiting
	last        map[string]int // the last run of each operation
	found       []Violation
}

type attemptOf struct {
	run
	number int
}

// Check returns every violation of a record.
func Check(r *Record) []Violation {
	c := index(r)
	c.ends()
	c.deadLetters()
	c.repeats()
	c.counts()
	c.early()
	c.payloads()
	c.limits()
	c.paused()
	c.general()
	slices.SortStableFunc(c.found, func(a, b Violation) int {
		return cmp.Or(cmp.Compare(slices.Index(Classes, a.Class), slices.Index(Classes, b.Class)), cmp.Compare(a.ID, b.ID))
	})
	return c.found
}

func index(r *Record) *checker {
	c := &checker{
		record: r, submissions: make(map[string]*Submission), attempts: make(map[run][]*Attempt),
		outcomes: make(map[run][]*Published[events.Outcome]), due: make(map[attemptOf]*Published[events.Scheduled]),
		dead: make(map[string]*DeadLetter), waiting: make(map[string]*Waiting), last: make(map[string]int),
	}
	seen := func(id string, n int) { c.last[id] = max(c.last[id], n) }
	for i := range r.Submissions {
		c.submissions[r.Submissions[i].ID] = &r.Submissions[i]
	}
	for i := range r.Attempts {
		a := &r.Attempts[i]
		seen(a.ID, a.Replay)
		key := run{a.ID, a.Replay}
		c.attempts[key] = append(c.attempts[key], a)
	}
	for _, list := range c.attempts {
		slices.SortStableFunc(list, func(a, b *Attempt) int { return a.At.Compare(b.At) })
	}
	for i := range r.Outcomes {
		o := &r.Outcomes[i]
		seen(o.Event.ID, o.Event.Replay)
		key := run{o.Event.ID, o.Event.Replay}
		c.outcomes[key] = append(c.outcomes[key], o)
	}
	for i := range r.Scheduled {
		s := &r.Scheduled[i]
		key := attemptOf{run{s.Event.ID, s.Event.Replay}, s.Event.Attempt + 1}
		if known := c.due[key]; known == nil || s.Event.Due.Before(known.Event.Due) {
			c.due[key] = s
		}
	}
	for i := range r.Dead {
		c.dead[r.Dead[i].ID] = &r.Dead[i]
		seen(r.Dead[i].ID, r.Dead[i].Replay)
	}
	for i := range r.Waiting {
		c.waiting[r.Waiting[i].ID] = &r.Waiting[i]
		seen(r.Waiting[i].ID, r.Waiting[i].Replay)
	}
	for _, p := range r.Replays {
		seen(p.ID, p.Run+1)
	}
	return c
}

func (c *checker) report(class Class, id, format string, args ...any) {
	c.found = append(c.found, Violation{Class: class, ID: id, Detail: fmt.Sprintf(format, args...)})
}

// ends checks that each run has exactly one outcome, or waits for a reason, and that nothing was
// published about operations that nobody submitted.
func (c *checker) ends() {
	for _, s := range c.submissions {
		last := c.last[s.ID]
		for n := range last + 1 {
			c.end(s, run{s.ID, n}, n == last)
		}
	}
	for key, ends := range c.outcomes {
		if c.submissions[key.id] == nil {
			c.report(Stranger, key.id, "%s is told of event %q, which was not submitted", ends[0].Event.Outcome, ends[0].Event.EventID)
		}
	}
	for id, w := range c.waiting {
		switch {
		case c.submissions[id] == nil:
			c.report(Stranger, id, "%s holds an operation that was not submitted", w.Subject)
		case len(c.outcomes[run{id, w.Replay}]) > 0:
			c.report(Stuck, id, "run %d has ended and still stands on %s", w.Replay, w.Subject)
		}
	}
}

// end checks how one run ended.
func (c *checker) end(s *Submission, key run, last bool) {
	ends := c.outcomes[key]
	switch {
	case len(ends) == 1:
		c.justified(s, key, ends[0])
		return
	case len(ends) > 1:
		c.report(Doubled, s.ID, "run %d has %d outcomes", key.number, len(ends))
		return
	case last && c.waiting[s.ID] != nil && c.waiting[s.ID].Replay == key.number:
		w := c.waiting[s.ID]
		c.report(Stuck, s.ID, "run %d still stands on %s, since %s", key.number, w.Subject, clock(w.Since))
		return
	case s.Stored.IsZero() && len(c.attempts[key]) == 0:
		return
	}
	c.report(Lost, s.ID, "run %d has no outcome and waits nowhere", key.number)
}

// justified checks that an outcome follows from the target's answers.
func (c *checker) justified(s *Submission, key run, ending *Published[events.Outcome]) {
	var heard, failed bool
	for _, a := range c.attempts[key] {
		heard = heard || a.Succeeded()
		failed = failed || !a.Succeeded()
	}
	switch ending.Event.Outcome {
	case events.RetrySuccess:
		if !heard {
			c.report(Wrong, s.ID, "run %d is told to have succeeded, and never did at the target", key.number)
		}
	case events.RetryFailed:
		switch {
		case c.record.Calm && heard:
			c.report(Wrong, s.ID, "run %d is told to have failed, and succeeded at the target", key.number)
		case c.record.Calm && !failed && ending.Event.Attempts > 1:
			c.report(Wrong, s.ID, "run %d is told to have failed after %d attempts, and none reached the target", key.number, ending.Event.Attempts)
		}
	default:
		c.report(Wrong, s.ID, "run %d ended in %q", key.number, ending.Event.Outcome)
	}
}

// deadLetters checks that each last run that failed has a readable dead letter, and no other run
// has one.
func (c *checker) deadLetters() {
	for id, d := range c.dead {
		ends := c.outcomes[run{id, d.Replay}]
		switch {
		case d.Problem != "":
			c.report(BadLetter, id, "the dead letter cannot be read: %s", d.Problem)
		case len(ends) == 1 && ends[0].Event.Outcome == events.RetrySuccess:
			c.report(BadLetter, id, "run %d succeeded and has a dead letter", d.Replay)
		case d.Replay != c.last[id]:
			c.report(BadLetter, id, "the dead letter of run %d is still there after run %d began", d.Replay, c.last[id])
		}
		if s := c.submissions[id]; s != nil && d.Problem == "" && d.Payload != s.Payload {
			c.report(Altered, id, "the dead letter holds %.40q, %.40q was submitted", d.Payload, s.Payload)
		}
	}
	for id, last := range c.last {
		ends := c.outcomes[run{id, last}]
		if len(ends) > 0 && ends[0].Event.Outcome == events.RetryFailed && c.dead[id] == nil {
			c.report(BadLetter, id, "run %d failed and has no dead letter", last)
		}
	}
}

// repeats checks that repeated attempts are marked.
func (c *checker) repeats() {
	for key, attempts := range c.attempts {
		seen := make(map[int]*Attempt)
		for _, a := range attempts {
			first := seen[a.Number]
			switch {
			case first == nil:
				seen[a.Number] = a
			case a.Repeated, a.Token != "" && a.Token == first.Token:
			case first.Repeated && (c.late(a) || a.At.Sub(first.At) < sameMoment):
			default:
				c.report(Unmarked, key.id, "attempt %d of run %d came %s after it had come first, unmarked",
					a.Number, key.number, a.At.Sub(first.At).Round(time.Millisecond))
			}
		}
	}
}

// late reports whether an attempt may have been on its way while its instance was frozen. Such a
// repeat is documented: its instance could not check it again before it reached the target. The
// attempt made in its place is marked.
func (c *checker) late(a *Attempt) bool {
	for _, f := range c.record.Faults {
		if since := a.At.Sub(f.At); strings.HasSuffix(f.What, GoesOn) && since >= 0 && since < lateSlack {
			return true
		}
	}
	return false
}

// counts checks the numbers of attempts against the policy.
func (c *checker) counts() {
	for key, attempts := range c.attempts {
		if most := c.mostAttempts(key.id, attempts[0].Key); most > 0 {
			c.count(key, attempts, most)
		}
		if c.record.Limits[attempts[0].Key].Reached {
			c.reached(key, attempts)
		}
	}
}

// mostAttempts returns an operation's maxAttempts, 0 for no limit.
func (c *checker) mostAttempts(id, key string) int {
	if s := c.submissions[id]; s != nil && s.MaxAttempts > 0 {
		return s.MaxAttempts
	}
	return c.record.Limits[key].MaxAttempts
}

func (c *checker) count(key run, attempts []*Attempt, most int) {
	made := 0
	for _, a := range attempts {
		if !a.Repeated {
			made++
		}
		if a.Number > most {
			c.report(Excessive, key.id, "attempt %d of run %d, of %d that the policy allows", a.Number, key.number, most)
		}
	}
	if made > most {
		c.report(Excessive, key.id, "run %d had %d attempts that are no repeats, of %d that the policy allows", key.number, made, most)
	}
}

// reached checks that the target has seen every attempt before the last that it saw, but for
// those that timed out: a server of a cluster may still send a request to a target that has just
// left another.
func (c *checker) reached(key run, attempts []*Attempt) {
	number := 2
	if key.number > 0 {
		number = 1
	}
	for _, a := range slices.SortedFunc(slices.Values(attempts), func(a, b *Attempt) int { return cmp.Compare(a.Number, b.Number) }) {
		for ; a.Number > number; number++ {
			if s := c.due[attemptOf{key, number + 1}]; s != nil && s.Event.Error.Code == "timeout" {
				continue
			}
			c.report(Wrong, key.id, "attempt %d of run %d counts, and never reached the target", number, key.number)
			return
		}
		number = a.Number + 1
	}
}

// paused checks that no request comes while its key is paused. A worker may be given one that was
// published before.
func (c *checker) paused() {
	for i := range c.record.Attempts {
		a := &c.record.Attempts[i]
		service, operation, err := events.SplitKey(a.Key)
		if err != nil || a.Token != "" {
			continue
		}
		for _, p := range c.record.Pauses {
			if p.Pattern.Matches(service, operation) && a.At.After(p.From.Add(pauseSlack)) && a.At.Before(p.To) {
				c.report(Unpaused, a.ID, "attempt %d came %s after %s was paused", a.Number, a.At.Sub(p.From).Round(time.Millisecond), p.Pattern)
			}
		}
	}
}

// early checks that no attempt comes before its time. As documented, operations parked when a
// breaker closes may come early.
func (c *checker) early() {
	closed := make(map[string][]time.Time)
	for _, b := range c.record.Breakers {
		if b.Event.To == "CLOSED" {
			closed[b.Event.Key] = append(closed[b.Event.Key], b.Event.At)
		}
	}
	for key, attempts := range c.attempts {
		for _, a := range attempts {
			c.inTime(key, a, closed[a.Key])
		}
	}
}

// inTime checks that an attempt comes when it is due, or once the breaker of its key has closed.
func (c *checker) inTime(key run, a *Attempt, closed []time.Time) {
	s := c.due[attemptOf{key, a.Number}]
	if s == nil || a.Repeated {
		return // the decision that led to a repeat may not have been published
	}
	due, delay := s.Event.Due, events.Milliseconds(s.Event.DelayMs)
	if c.record.Skewed {
		due = c.decided(key, a.Number).Add(delay)
	}
	// An attempt before the decision follows from another decision, which was not published.
	if !a.At.Add(earlySlack).Before(due) || a.At.Before(due.Add(-delay)) {
		return
	}
	healed := slices.ContainsFunc(closed, func(t time.Time) bool {
		return t.After(due.Add(-delay-time.Second)) && t.Before(a.At.Add(changeSlack))
	})
	if !healed {
		c.report(Early, key.id, "attempt %d of run %d came %s before it was due", a.Number, key.number, due.Sub(a.At).Round(100*time.Microsecond))
	}
}

// decided returns the earliest time of the decision on an attempt: the end of the previous
// attempt, or the submission.
func (c *checker) decided(key run, number int) time.Time {
	var earliest time.Time
	for _, a := range c.attempts[key] {
		if a.Number == number-1 && (earliest.IsZero() || a.End.Before(earliest)) {
			earliest = a.End
		}
	}
	if s := c.submissions[key.id]; earliest.IsZero() && s != nil {
		return s.At
	}
	return earliest
}

// payloads checks that the target gets the submitted payload.
func (c *checker) payloads() {
	for key, attempts := range c.attempts {
		s := c.submissions[key.id]
		for _, a := range attempts {
			switch {
			case s == nil:
				c.report(Stranger, key.id, "attempt %d came of an operation that was not submitted", a.Number)
			case a.Payload != s.Payload:
				c.report(Altered, key.id, "attempt %d brought %.40q, %.40q was submitted", a.Number, a.Payload, s.Payload)
			}
		}
	}
}

// general checks what concerns no operation.
func (c *checker) general() {
	if !c.record.Drained {
		c.report(Stuck, "", "%d operations still wait %s after the last fault", len(c.record.Waiting), c.record.Bound)
	}
	for i := range c.record.Series {
		if s := &c.record.Series[i]; s.Rises() {
			t := s.Trend()
			c.report(Leaked, "", "%s rises from %.1f to %.1f, by %.1f an hour", s.Name, t.First, t.Last, t.PerHour)
		}
	}
	for _, e := range c.record.Exits {
		c.report(Exited, "", "at %s %s", clock(e.At), e.What)
	}
	for _, i := range c.record.Instances {
		if !c.record.Drained {
			break // the instances are still busy
		}
		if i.GoroutinesEnd > i.Goroutines*3/2+spareGoroutines {
			c.report(Leaked, "", "%s has %d goroutines with nothing to do, %d at first", i.Name, i.GoroutinesEnd, i.Goroutines)
		}
		if i.ResidentEnd > 2*i.Resident+spareResident {
			c.report(Leaked, "", "%s has %d MiB resident with nothing to do, %d MiB at first", i.Name, i.ResidentEnd>>20, i.Resident>>20)
		}
	}
}

const (
	// spareGoroutines and spareResident are what an idle instance may have in addition to its
	// initial figures: connections, and memory that the runtime has not released yet.
	spareGoroutines = 100
	spareResident   = 192 << 20
)

func clock(t time.Time) string { return t.Local().Format("15:04:05.000") }
