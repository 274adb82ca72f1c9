package scheduler

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/health"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

// Pipeline takes an operation from one state to the next: it asks the policy, makes
// the attempt, and stores the next state before the caller may acknowledge the
// previous one. It keeps no state of its own and is safe for concurrent use.
//
// Only positive proof ends the claim of a holder: a newer version in the slot, a
// stored outcome of the run, or a dead letter of it. See claim.go.
type Pipeline struct {
	// Policies returns the policies in force.
	Policies func() *policy.Set
	Store    Store
	// Ends knows which runs have ended. Nil knows of none.
	Ends   Ends
	Target Target
	// Publisher delivers operations whose delivery is publish. Nil refuses them.
	Publisher Publisher
	// Health records every attempt and is read before every decision. Nil leaves
	// health out of account.
	Health *health.Registry
	// Gates say whether a due operation may go now. Nil lets everything go.
	Gates *Gates
	// Began is called for every attempt that begins, with how long after its due
	// time that is. Attempted is called for every attempt whose result is known. Both
	// are called between other work, so they must be quick. Either may be nil.
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

// Because the NATS server fires schedules with a granularity of 250 ms, an operation
// is parked for a little less than its delay and kept in memory for the rest. For a
// short delay it is not parked at all.
const (
	// ShortDelay is the shortest delay that is worth parking.
	ShortDelay = 500 * time.Millisecond
	// EarlyArming is how long before its time a parked operation is fired.
	EarlyArming = 400 * time.Millisecond
	// maxUnstored is how long attempts may go on in memory before the state is stored
	// again.
	maxUnstored = 5 * time.Second
	// mostUnstored is how many may, which bounds the attempts that another instance
	// may have made too.
	mostUnstored = 8
	// lookAge is how old a check of the claim may be when an attempt begins.
	lookAge = 20 * time.Millisecond
)

// Check returns an [*events.RejectedError] if an operation would be rejected. It does
// not take it in.
func (p *Pipeline) Check(op *events.Operation) error {
	_, err := p.admit(op)
	return err
}

// admit returns the policy of an operation that may be taken in.
func (p *Pipeline) admit(op *events.Operation) (*policy.Policy, error) {
	pol, err := p.resolve(op)
	if err == nil && op.Delivery == events.Publish && p.Publisher == nil {
		err = errors.New("delivery publish is not supported here")
	}
	if err == nil {
		err = p.checkTarget(pol, p.target(pol, op))
	}
	if err != nil {
		return nil, &events.RejectedError{Service: op.Service, Operation: op.Operation, Problem: err}
	}
	return pol, nil
}

// resolve returns the policy of an operation and sets its priority and delivery.
func (p *Pipeline) resolve(op *events.Operation) (*policy.Policy, error) {
	q := policy.Query{Service: op.Service, Operation: op.Operation, Account: op.Account, Campaign: op.Campaign}
	pol := p.Policies().Find(q)
	if len(op.Overrides) > 0 {
		overrides, err := policy.ParseOverrides(op.Overrides)
		if err != nil {
			return nil, err
		}
		pol = pol.Override(overrides)
	}
	if !op.PriorityGiven {
		op.Priority = pol.Priority
	}
	if op.Delivery == "" {
		op.Delivery = pol.Delivery
	}
	return pol, nil
}

// target returns the subject that an operation is delivered to.
func (p *Pipeline) target(pol *policy.Policy, op *events.Operation) string {
	if op.Delivery == events.Publish && p.Publisher != nil && op.Target == "" && pol.HasDefaultTarget() {
		return p.Publisher.Subject(op.Service, op.Operation)
	}
	return pol.TargetOf(op.Target, op.Service, op.Operation)
}

// checkTarget applies the general restrictions of targets and the policy's.
func (p *Pipeline) checkTarget(pol *policy.Policy, subject string) error {
	if err := p.CheckTarget(subject); err != nil {
		return err
	}
	if !pol.Allows(subject) {
		return fmt.Errorf("target %q is not among the targets that the policy allows", subject)
	}
	return nil
}

// verdict is what becomes of an operation after a failure.
type verdict struct {
	policy.Decision
	failure policy.Failure
}

// Decide asks the policy what becomes of op after a failure of its attempt op.Attempt,
// with what p.Health knows of the service, and writes the decision into op. It is for
// callers that retry in their own process, with no store between the attempts. Of p it
// needs Health and Random.
func (p *Pipeline) Decide(pol *policy.Policy, op *events.Operation, failure policy.Failure, now time.Time) policy.Decision {
	return p.decide(pol, op, failure, op.PreviousDelay(), now)
}

// decide asks the policy and writes the decision into the operation. previous is the
// delay that preceded the attempt.
func (p *Pipeline) decide(pol *policy.Policy, op *events.Operation, failure policy.Failure, previous time.Duration, now time.Time) policy.Decision {
	d := pol.Decide(policy.Input{
		Attempt: op.Attempt, Previous: previous, Now: now, ElapsesFrom: policy.ElapsesFrom(op), Deadline: op.Deadline,
		Failure: failure, Priority: op.Priority, Service: op.Service, Seen: op.RuleUses,
		Opens: p.Gates.Opens(pol, op.Service, op.Operation, now), Signals: p.signals(pol, op.Service, now),
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

// signals returns what the policy's factors read of a service. A policy without
// factors needs none.
func (p *Pipeline) signals(pol *policy.Policy, service string, now time.Time) policy.Signals {
	if p.Health == nil || !pol.Adapts() {
		return policy.Signals{}
	}
	return pol.Signals(p.Health.Figures(service, pol.LearningWindow, now))
}

// Scheduled returns the event that publishes a decision to try op again.
func Scheduled(op *events.Operation, d policy.Decision, failure policy.Failure) events.Scheduled {
	last, _ := op.Last()
	return events.Scheduled{
		About: op.About(), Attempt: op.Attempt,
		Error:      events.Failure{Code: failure.Code, Message: failure.Message},
		DurationMs: last.DurationMs, Class: d.Class.String(), Rule: d.Rule,
		DelayMs: events.InMilliseconds(d.Delay), Due: d.Due.UTC(), GateMs: events.InMilliseconds(d.Gate),
		Strategy: d.Strategy, Confidence: d.Confidence, Factors: d.Factors.Map(),
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
	return p.publishOutcome(ctx, op, m, outcome)
}

// fail ends an operation in retryFailed. The dead letter is stored first, so that no
// outcome is published without its operation being kept.
func (p *Pipeline) fail(ctx context.Context, pol *policy.Policy, op *events.Operation, m Message, v verdict) error {
	detail := v.Detail(pol, op)
	if err := p.Store.Bury(ctx, op, m, v.Reason, detail); err != nil {
		return err
	}
	outcome := op.Ended(events.RetryFailed, p.Now())
	outcome.Reason, outcome.Detail = v.Reason, detail
	outcome.Error = &events.Failure{Code: v.failure.Code, Message: v.failure.Message}
	outcome.Class, outcome.Rule = v.Class.String(), v.Rule
	outcome.Target = p.target(pol, op)
	if last, ok := op.Last(); ok {
		outcome.DurationMs = last.DurationMs
	}
	return p.publishOutcome(ctx, op, m, outcome)
}

// publishOutcome publishes the outcome of a run unless another holder did so while it could
// not be stored.
func (p *Pipeline) publishOutcome(ctx context.Context, op *events.Operation, m Message, outcome events.Outcome) error {
	for round := 0; ; round++ {
		err := p.Store.Ended(ctx, op, m, outcome)
		if !errors.Is(err, ErrShared) {
			return err
		}
		op.Contest(m.Stored)
		if concluded, err := p.concluded(ctx, op); err != nil || concluded {
			return err
		}
		if err := p.pauseInDoubt(ctx, op, round); err != nil {
			return err
		}
	}
}
