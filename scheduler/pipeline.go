package scheduler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/health"
	"github.com/rebound-mq/rebound/scheduler/gate"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

// Because the NATS server fires schedules on a grain of 250 ms, an operation is
// parked for a little less than its delay and held in memory for the rest, and
// a short delay is not parked at all.
const (
	// ShortDelay is the shortest delay that is worth parking.
	ShortDelay = 500 * time.Millisecond
	// EarlyArming is how long before its time a parked operation is fired.
	EarlyArming = 400 * time.Millisecond
	// maxUnstored bounds how long attempts may go on in memory before the state
	// is stored again.
	maxUnstored = 5 * time.Second
	// mostUnstored bounds how many, so that it is known which of them another
	// instance may have made.
	mostUnstored = 8
	// lookAge is how old a look at what another may have may be when an attempt begins.
	lookAge = 20 * time.Millisecond
)

// ErrMoved says that the store refused a write because another version stands in
// the operation's slot than the one that was expected. It does not say which, so it
// proves nothing; see [Pipeline].
var ErrMoved = errors.New("another version of the operation is stored")

// ErrTaken says that a submission was taken in before, whatever has become of its
// operation since.
var ErrTaken = errors.New("the submission was taken in before")

// ErrShared says that another holder may have got the operation while something was
// stored of it.
var ErrShared = errors.New("another may have the operation as well by now")

// ErrForeign says that what stands in the place of an operation is none: somebody
// else published it there.
var ErrForeign = errors.New("what stands in its place is no operation")

// Message is an operation's submission as it came. The pipeline carries it
// along and reads nothing of it.
type Message struct {
	// Subject is where it was submitted, empty once the operation waits.
	Subject string
	// Name names the submission for ever, empty once the operation waits. By it a
	// store recognises that it has taken the submission in.
	Name   string
	Header map[string][]string
	Data   []byte
	// Version is the operation's version in the store from which this holder
	// got it, 0 when it is not in the store yet.
	Version uint64
	// Place is where in the store that version stands, for the store alone to
	// read.
	Place string
	// Stored is when that version, or the submission, was stored.
	Stored time.Time
	// Shared reports whether another holder may have the same version or submission
	// as well; nil means never.
	Shared func() bool
}

func (m Message) shared() bool { return m.Shared != nil && m.Shared() }

// Waiting is what the store knows of an operation that waits, is held or is due.
type Waiting struct {
	// Version, Place and Stored are those of a [Message].
	Version uint64
	Place   string
	Stored  time.Time
	// InFlight is whether it is due, so that an instance has or will have it in
	// hand, or a worker has it.
	InFlight bool
	// Op is the stored state, and Header and Data are what was submitted.
	Op     *events.Operation
	Header map[string][]string
	Data   []byte
}

// Store is where operations wait and end. Every method returns only when what
// it stored is acknowledged, retries what passes by itself for as long as ctx
// lives, and is idempotent. When it is not known what became of a try, the state
// that is stored by a later one is contested, since m.Stored.
type Store interface {
	// Place stores op as waiting until op.Due in the place of version
	// m.Version, 0 being nothing. It returns [ErrMoved] when another version is
	// there, and [ErrTaken] when the submission m.Name was stored before.
	Place(ctx context.Context, op *events.Operation, m Message) error
	// Hold stores op in its lane in the place of version m.Version, until the
	// gate of its key opens or its deadline is over. It returns [ErrMoved] when
	// another version is there.
	Hold(ctx context.Context, op *events.Operation, m Message) error
	// Watch stores op, which a worker is given, as waiting until op.Due in the
	// place of version m.Version, and returns m as the holder of what it stored.
	// It returns [ErrMoved] when another version is there.
	Watch(ctx context.Context, op *events.Operation, m Message) (Message, error)
	// Find returns the operation as it waits; ok is false when none is seen, which
	// proves nothing. It returns [ErrForeign] when something else stands there.
	Find(ctx context.Context, op *events.Operation) (w Waiting, ok bool, err error)
	// Remove takes away the waiting version, or returns [ErrMoved].
	Remove(ctx context.Context, op *events.Operation, version uint64) error
	// Bury keeps the operation as a dead letter.
	Bury(ctx context.Context, op *events.Operation, m Message, reason events.Reason, detail string) error
	// Ended publishes the outcome of an operation. It returns [ErrShared] when that
	// took so long that another holder, or an earlier try, may have told of it.
	Ended(ctx context.Context, op *events.Operation, m Message, outcome events.Outcome) error
	// Scheduled publishes a decision.
	Scheduled(ctx context.Context, op *events.Operation, event events.Scheduled) error
}

// Reply is how a target answered an attempt.
type Reply struct {
	// Failed is whether the attempt failed; Failure says how.
	Failed  bool
	Failure policy.Failure
	// Duration is how long the attempt took.
	Duration time.Duration
}

// Target is what attempts are made at.
type Target interface {
	// Deliver makes one attempt. The error means that it is not known how the
	// attempt went, for a reason that is not the target's.
	Deliver(ctx context.Context, op *events.Operation, m Message, subject string, attempt int, repeated bool, timeout time.Duration) (Reply, error)
}

// Pipeline takes an operation from one state to the next: it asks the policy,
// makes the attempt, and stores what follows before the caller may
// acknowledge what came before. It keeps no state of its own and is safe for
// concurrent use.
//
// Only positive proof ends the claim of a holder: a newer version in the slot, a
// stored outcome of the run, or a dead letter of it. See claim.go.
type Pipeline struct {
	// Policies returns the policies in force.
	Policies func() *policy.Set
	Store    Store
	// Ends knows which runs have ended. Nil is nobody.
	Ends   Ends
	Target Target
	// Publisher is what operations go through whose delivery is publish. Nil
	// refuses them.
	Publisher Publisher
	// Health is told of every attempt and asked before every decision. Nil leaves
	// health out of account.
	Health *health.Registry
	// Gates say whether a due operation may go now. Nil lets all go.
	Gates *Gates
	// Began is told of every attempt that begins, and how long after it was due.
	// Attempted is told of every attempt of which it is known how it ended. Both
	// are called in the middle of the work, so they must be quick. Nil is nobody.
	Began     func(ctx context.Context, op *events.Operation, late time.Duration)
	Attempted func(ctx context.Context, op *events.Operation, reply Reply)
	// CheckTarget says whether a subject may be a target at all.
	CheckTarget func(subject string) error
	// Now is the clock and Random the source of jitter.
	Now    func() time.Time
	Random func() float64
	// Draining is closed when the instance is about to stop.
	Draining <-chan struct{}
}

// resolve returns the policy of an operation and settles its priority.
func (p *Pipeline) resolve(op *events.Operation) (*policy.Policy, error) {
	q := policy.Query{Service: op.Service, Operation: op.Operation, Account: op.Account, Campaign: op.Campaign}
	found := p.Policies().Resolve(q)
	resolved := &found
	if len(op.Overrides) > 0 {
		overrides, err := policy.ParseOverrides(op.Overrides)
		if err != nil {
			return nil, err
		}
		resolved = found.Override(overrides)
	}
	if !op.PriorityGiven {
		op.Priority = resolved.Priority
	}
	return resolved, nil
}

// Check reports, as an [*events.RejectedError], why an operation would be
// rejected, without taking it in.
func (p *Pipeline) Check(op *events.Operation) error {
	_, err := p.admit(op)
	return err
}

// admit returns the policy of an operation that may be taken in.
func (p *Pipeline) admit(op *events.Operation) (*policy.Policy, error) {
	policy, err := p.resolve(op)
	if err == nil && op.Delivery == events.Publish && p.Publisher == nil {
		err = errors.New("delivery publish is not supported here")
	}
	if err == nil {
		err = p.checkTarget(policy, p.target(policy, op))
	}
	if err != nil {
		return nil, &events.RejectedError{Service: op.Service, Operation: op.Operation, Problem: err}
	}
	return policy, nil
}

// Accept takes in a submitted operation: it decides upon the failure that was
// submitted and stores the operation as waiting, or ends it. An operation that
// is here already takes the submission in: the higher attempt wins. When Accept
// returns nil the submission may be acknowledged; an [*events.RejectedError]
// asks for [Pipeline.Reject].
func (p *Pipeline) Accept(ctx context.Context, op *events.Operation, m Message) error {
	policy, d, failure, err := p.judge(op)
	if err != nil {
		return err
	}
	if done, err := p.repeated(ctx, op, m); err != nil || done {
		return err
	}
	moved := ErrMoved
	if d.Retry {
		// Hardly any submission finds its operation here already, so it is looked
		// for only when it is in the way.
		moved = p.Store.Place(ctx, op, m)
	}
	for round := 0; errors.Is(moved, ErrMoved); round++ {
		if round > 0 {
			if err := p.pauseInDoubt(ctx, op, round-1); err != nil {
				return err
			}
		}
		w, found, err := p.Store.Find(ctx, op)
		switch {
		case err != nil:
			return err
		case found && (w.InFlight || w.Op.Replay > op.Replay || w.Op.Attempt >= op.Attempt):
			return nil
		case found:
			op.Continue(w.Op)
			if p.Now().After(w.Op.Due.Add(-EarlyArming - NearFiring)) {
				Share(op, w.Stored) // it may be fired at this moment
			}
		}
		m.Version, m.Place = w.Version, w.Place
		switch {
		case d.Retry:
			moved = p.Store.Place(ctx, op, m)
		case found:
			moved = p.Store.Remove(ctx, op, m.Version)
		default:
			moved = nil
		}
	}
	switch {
	case errors.Is(moved, ErrTaken):
		return nil
	case moved != nil:
		return moved
	case !d.Retry:
		return p.fail(ctx, policy, op, m, d, failure)
	}
	return p.Store.Scheduled(ctx, op, scheduled(op, d, failure))
}

// repeated reports whether a submission that another instance may have taken in led
// to an operation that has ended by now.
func (p *Pipeline) repeated(ctx context.Context, op *events.Operation, m Message) (bool, error) {
	if m.shared() {
		op.Contest(m.Stored)
	}
	return p.concluded(ctx, op)
}

// Replay stores the operation of a dead letter, which op.Dead names, as due at once.
// One whose replay is here already stays as it is; what is left over of an earlier run
// is replaced. left is whether the dead letter is left to the operation that is stored:
// it is removed before the first attempt, so that while it stands no run of its replay
// has begun. Otherwise the caller removes it.
func (p *Pipeline) Replay(ctx context.Context, op *events.Operation, m Message) (left bool, err error) {
	if _, err := p.admit(op); err != nil {
		return false, err
	}
	if done, err := p.repeated(ctx, op, m); err != nil || done {
		return false, err
	}
	for round := 0; ; round++ {
		err := p.Store.Place(ctx, op, m)
		switch {
		case err == nil, errors.Is(err, ErrTaken):
			return true, nil
		case !errors.Is(err, ErrMoved):
			return false, err
		}
		w, found, err := p.Store.Find(ctx, op)
		switch {
		case err != nil:
			return false, err
		case found && w.Op.Replay >= op.Replay:
			return w.Op.Dead.Is(op.Dead), nil
		}
		m.Version, m.Place = w.Version, w.Place
		if err := p.pauseInDoubt(ctx, op, round); err != nil {
			return false, err
		}
	}
}

// Reject ends an operation that cannot be accepted.
func (p *Pipeline) Reject(ctx context.Context, op *events.Operation, m Message, problem error) error {
	detail := problem.Error()
	if err := p.Store.Bury(ctx, op, m, events.ReasonRejected, detail); err != nil {
		return err
	}
	outcome := op.Ended(events.RetryFailed, p.Now())
	outcome.Reason, outcome.Detail = events.ReasonRejected, detail
	return p.tell(ctx, op, m, outcome)
}

// Attempt brings a due operation to its target, again and again while the
// delays are short, until it is stored in its next state. Attempts that another
// holder may have made are marked as repeats. When the gate of its key is shut the
// operation is held. When Attempt returns nil the due message may be acknowledged.
func (p *Pipeline) Attempt(ctx context.Context, op *events.Operation, m Message) error {
	silent := op.Work != nil && op.Work.Result == nil
	if silent {
		// A report may have overtaken the watchdog while it fired.
		op.Contest(op.Work.Started)
	}
	if over, err := p.over(ctx, op, m); err != nil || over {
		return err
	}
	if silent {
		return p.overdue(ctx, op, m)
	}
	unstored := p.Now().Add(maxUnstored)
	for n := 1; ; n++ {
		policy, err := p.resolve(op)
		if err != nil {
			return p.Reject(ctx, op, m, err)
		}
		a, err := p.try(ctx, policy, op, m)
		if err != nil || a == nil {
			return err
		}
		if !a.stored && m.shared() {
			op.Contest(m.Stored)
			return p.keep(ctx, op, m, a)
		}
		if over, err := p.over(ctx, op, m); err != nil || over {
			return err
		}
		reply, before := a.reply, *op
		before.History = slices.Clone(op.History)
		op.Attempt++
		if !reply.Failed {
			outcome := op.Ended(events.RetrySuccess, p.Now())
			outcome.Target, outcome.DurationMs = a.subject, events.InMilliseconds(reply.Duration)
			return p.tell(ctx, op, m, outcome)
		}
		op.Record(events.Attempt{
			Number: op.Attempt, At: a.at.UTC(), DurationMs: events.InMilliseconds(reply.Duration),
			Code: reply.Failure.Code, Error: reply.Failure.Message, Repeated: a.repeated,
		})

		now := p.Now()
		op.RetryAfter = time.Time{}
		if after := reply.Failure.RetryAfter; after > 0 {
			op.RetryAfter = now.Add(after).UTC()
		}
		d := p.decide(policy, op, reply.Failure, op.PreviousDelay(), now)
		if !d.Retry && !a.stored {
			// Whoever tells of it, even late, tells of the same end.
			return p.keep(ctx, &before, m, a)
		}
		if !d.Retry {
			return p.fail(ctx, policy, op, m, d, reply.Failure)
		}
		event := scheduled(op, d, reply.Failure)
		if d.Delay >= ShortDelay || d.Due.After(unstored) || n == mostUnstored {
			if err := p.advance(ctx, op, m, p.Store.Place); err != nil {
				return err
			}
			return p.Store.Scheduled(ctx, op, event)
		}
		if err := p.Store.Scheduled(ctx, op, event); err != nil {
			return err
		}
		if !p.wait(ctx, d.Delay) {
			return p.advance(ctx, op, m, p.Store.Place)
		}
	}
}

// made is an attempt that was made.
type made struct {
	subject string
	at      time.Time
	reply   Reply
	// repeated is whether it may have been made before, and stored whether the store
	// knows how it went.
	repeated, stored bool
}

// try makes one attempt, or takes over how a worker's ended. It returns nil when
// the operation is stored in its next state instead: it was held, ended or handed
// over to a worker.
func (p *Pipeline) try(ctx context.Context, policy *policy.Policy, op *events.Operation, m Message) (*made, error) {
	if op.Work != nil {
		return p.worked(ctx, policy, op, m.shared()), nil
	}
	now := p.Now()
	if expired(op, now) {
		return nil, p.expire(ctx, policy, op, m)
	}
	subject := p.target(policy, op)
	if err := p.checkTarget(policy, subject); err != nil {
		return nil, p.Reject(ctx, op, m, err)
	}
	entered := now
	pass, shut, err := p.Gates.Enter(ctx, policy, op, now)
	switch {
	case err != nil:
		return nil, fmt.Errorf("entering the gate of %s: %w", op.Key(), err)
	case shut != nil:
		return nil, p.advance(ctx, op, m, p.Store.Hold)
	}
	if now = p.Now(); expired(op, now) {
		pass.Done(gate.Unused, 0, now)
		return nil, p.expire(ctx, policy, op, m)
	}
	if m.shared() && (op.Contested.IsZero() || now.Sub(entered) > lookAge) {
		// This instance stood still meanwhile, or waited at the gate.
		if over, err := p.over(ctx, op, m); err != nil || over {
			pass.Done(gate.Unused, 0, p.Now())
			return nil, err
		}
	}
	timeout := policy.AttemptTimeout
	if !op.Deadline.IsZero() {
		timeout = min(timeout, op.Deadline.Sub(now))
	}
	if p.Began != nil {
		p.Began(ctx, op, max(now.Sub(op.Due), 0))
	}
	if op.Delivery == events.Publish {
		return nil, p.publish(ctx, op, m, subject, pass, timeout)
	}
	repeated := op.Attempt < op.Repeats || m.shared()
	reply, err := p.deliver(ctx, policy, op, m, subject, repeated, timeout)
	pass.Done(resultOf(reply, err), reply.Duration, p.Now())
	if err != nil {
		return nil, fmt.Errorf("attempt %d of operation %s: %w", op.Attempt+1, op.ID, err)
	}
	p.attempted(ctx, op, reply)
	return &made{subject: subject, at: now, reply: reply, repeated: repeated}, nil
}

func (p *Pipeline) attempted(ctx context.Context, op *events.Operation, reply Reply) {
	if p.Attempted != nil {
		p.Attempted(ctx, op, reply)
	}
}

// expired reports whether the operation's deadline is over.
func expired(op *events.Operation, now time.Time) bool {
	return !op.Deadline.IsZero() && !now.Before(op.Deadline)
}

// expire ends an operation whose deadline is over.
func (p *Pipeline) expire(ctx context.Context, by *policy.Policy, op *events.Operation, m Message) error {
	last, _ := op.Last()
	return p.fail(ctx, by, op, m, policy.Decision{Reason: events.ReasonDeadline}, policy.Failure{Code: last.Code, Message: last.Error})
}

// wait reports whether the delay ran its course. It ends early when the
// instance is about to stop.
func (p *Pipeline) wait(ctx context.Context, delay time.Duration) bool {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-p.Draining:
	case <-ctx.Done():
	}
	return false
}

// decide asks the policy and writes the decision into the operation.
func (p *Pipeline) decide(by *policy.Policy, op *events.Operation, failure policy.Failure, previous time.Duration, now time.Time) policy.Decision {
	d := by.Decide(policy.Input{
		Attempt: op.Attempt, Previous: previous, Now: now, FirstFailure: op.FirstFailure, Deadline: op.Deadline,
		Failure: failure, Priority: op.Priority, Service: op.Service, Seen: op.RuleUses,
		Opens: p.Gates.Opens(by, op.Service, op.Operation, now), Signals: p.signals(by, op.Service, now),
	}, p.Random)
	if d.Limited {
		uses := make(map[string]int, len(op.RuleUses)+1)
		for rule, n := range op.RuleUses {
			uses[rule] = n
		}
		uses[d.Rule]++
		op.RuleUses = uses
	}
	op.Due = d.Due
	if n := len(op.History); n > 0 {
		last := &op.History[n-1]
		last.Class, last.Rule = d.Class.String(), d.Rule
		if d.Retry {
			last.DelayMs, last.Strategy = events.InMilliseconds(d.Delay), d.Strategy
		}
	}
	return d
}

// fail ends an operation in retryFailed. The dead letter is stored first, so
// that nothing is told of that is not kept.
func (p *Pipeline) fail(ctx context.Context, policy *policy.Policy, op *events.Operation, m Message, d policy.Decision, failure policy.Failure) error {
	detail := d.Detail(policy, op)
	if err := p.Store.Bury(ctx, op, m, d.Reason, detail); err != nil {
		return err
	}
	outcome := op.Ended(events.RetryFailed, p.Now())
	outcome.Reason, outcome.Detail = d.Reason, detail
	outcome.Error = &events.Failure{Code: failure.Code, Message: failure.Message}
	outcome.Class, outcome.Rule = d.Class.String(), d.Rule
	outcome.Target = p.target(policy, op)
	if last, ok := op.Last(); ok {
		outcome.DurationMs = last.DurationMs
	}
	return p.tell(ctx, op, m, outcome)
}

// checkTarget applies the bounds that hold for everybody and the policy's.
func (p *Pipeline) checkTarget(policy *policy.Policy, subject string) error {
	if err := p.CheckTarget(subject); err != nil {
		return err
	}
	if !policy.Allows(subject) {
		return fmt.Errorf("target %q is not among the targets that the policy allows", subject)
	}
	return nil
}

// scheduled returns the event that tells of a decision.
func scheduled(op *events.Operation, d policy.Decision, failure policy.Failure) events.Scheduled {
	last, _ := op.Last()
	return events.Scheduled{
		About: op.About(), Attempt: op.Attempt,
		Error:      events.Failure{Code: failure.Code, Message: failure.Message},
		DurationMs: last.DurationMs, Class: d.Class.String(), Rule: d.Rule,
		DelayMs: events.InMilliseconds(d.Delay), Due: d.Due.UTC(), GateMs: events.InMilliseconds(d.Gate),
		Strategy: d.Strategy, Confidence: d.Confidence, Factors: d.Factors.Map(),
	}
}
