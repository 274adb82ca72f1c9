package scheduler

import (
	"context"
	"errors"
	"time"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
)

// Gates are the gates of all keys, as one instance knows them. The gate of a key
// says whether a due operation may go to its target now. A nil *Gates is open for
// all. It is safe for concurrent use.
type Gates struct{ breakers *breaker.Group }

// NewGates returns gates that go by the breakers of a group.
func NewGates(breakers *breaker.Group) *Gates { return &Gates{breakers: breakers} }

// Cause is why a gate is shut.
type Cause string

// CauseBreaker is that the breaker of the key is open, or half open with all its
// probes in flight.
const CauseBreaker Cause = "breaker"

// Shut says that a gate is shut.
type Shut struct {
	Cause Cause
	// Next is when it is worth while to ask again. Zero is not before the gate
	// changes, which its parts tell of, as [breaker.Config.Room] does.
	Next time.Time
}

// Pass is the leave to make one attempt. The zero value is one that nobody wants
// to hear of.
type Pass struct{ permit breaker.Permit }

// Done tells how the attempt ended and how long it took. It must be called once,
// with [breaker.Unused] when it is not known how the attempt went.
func (p Pass) Done(result breaker.Result, took time.Duration, now time.Time) {
	p.permit.Done(result, took, now)
}

// probeSlack is what an attempt may take beyond its timeout: the wait for a late
// reply and for the conclusion to be told.
const probeSlack = 2 * time.Second

// breaker returns the breaker of a key, nil when the policy has none.
func (g *Gates) breaker(policy *Policy, key string) *breaker.Breaker {
	if g == nil || !policy.EnableCircuitBreaker {
		return nil
	}
	return g.breakers.Breaker(key, policy.BreakerSettings())
}

// BreakerSettings are the policy's part for the breaker of its key.
func (p *Policy) BreakerSettings() breaker.Settings {
	return breaker.Settings{
		Threshold: p.CircuitBreakerThreshold, Timeout: p.CircuitBreakerTimeout,
		FailureRate: p.CircuitBreakerFailureRate, Window: p.CircuitBreakerWindow,
		MinimumCalls:        p.CircuitBreakerMinimumCalls,
		HalfOpenMaxRequests: p.HalfOpenMaxRequests, HalfOpenSuccesses: p.HalfOpenSuccesses,
		ProbeLease: p.AttemptTimeout + probeSlack,
	}
}

// Enter asks for leave to make one attempt of op. A gate that is shut is no
// error; the error is that of ctx. A gate that is not wide open may wait for what
// it shares with other instances, at most half a second.
func (g *Gates) Enter(ctx context.Context, policy *Policy, op *events.Operation, now time.Time) (Pass, *Shut, error) {
	b := g.breaker(policy, op.Key())
	if b == nil {
		return Pass{}, nil, nil
	}
	permit, err := b.Allow(ctx, now)
	switch {
	case err == nil:
		return Pass{permit}, nil, nil
	case errors.Is(err, breaker.ErrOpen), errors.Is(err, breaker.ErrProbing):
		_, next := b.Ready(now)
		return Pass{}, &Shut{Cause: CauseBreaker, Next: next}, nil
	}
	return Pass{}, nil, err
}

// Room says how many held operations of a key may be let out now. When that is
// 0, next is when it is worth while to ask again, as in [Shut]. It takes nothing:
// only a [Pass] is certain.
func (g *Gates) Room(policy *Policy, service, operation string, now time.Time) (n int, next time.Time) {
	b := g.breaker(policy, events.Key(service, operation))
	if b == nil {
		return breaker.Unlimited, time.Time{}
	}
	return b.Ready(now)
}

// Opens is when the gate of a key that is shut can open at the earliest. It is
// zero when the gate is open or nobody knows.
func (g *Gates) Opens(policy *Policy, service, operation string, now time.Time) time.Time {
	b := g.breaker(policy, events.Key(service, operation))
	if b == nil || b.State() != breaker.Open {
		return time.Time{}
	}
	_, next := b.Ready(now)
	return next
}

// resultOf returns what an attempt says of its target's health to a breaker; err
// means that it is not known how it went.
func resultOf(reply Reply, err error) breaker.Result {
	switch {
	case err != nil:
		return breaker.Unused
	case !reply.Failed:
		return breaker.Success
	case reply.Failure.Unhealthy():
		return breaker.Failure
	}
	return breaker.Ignored
}
