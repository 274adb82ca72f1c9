package simulator

import (
	"time"

	"github.com/rebound-mq/rebound/scheduler/policy"
)

// client is a strategy that each operation follows on its own, in the process of the service
// where it failed: a delay, and optionally a shared budget.
type client struct {
	*world
	delay  func(op *operation, a answer) (d time.Duration, ok bool)
	budget budget // may be nil
}

// budget bounds the retries of clients.
type budget interface {
	// requested records how a request ended; retry reports whether it was a retry, and paid is
	// what withdraw returned for it.
	requested(failed, throttled, retry bool, paid int, now time.Time)
	// withdraw asks for one retry after a failure.
	withdraw(f policy.Failure, now time.Time) (paid int, ok bool)
	// pace returns how much longer a due retry must wait.
	pace(now time.Time) time.Duration
}

func (c *client) tried(a answer) {
	if c.budget != nil {
		c.budget.requested(a.failed, throttled(a), false, 0, c.now)
	}
}

func (c *client) failed(op *operation, a answer) {
	d, ok := c.delay(op, a)
	paid := 0
	if ok && c.budget != nil {
		paid, ok = c.budget.withdraw(a.failure, c.now)
	}
	if !ok {
		c.giveUp(op)
		return
	}
	op.previous = d
	c.after(d, func() { c.due(op, paid) })
}

func (c *client) due(op *operation, paid int) {
	if c.budget != nil {
		if d := c.budget.pace(c.now); d > 0 {
			c.after(d, func() { c.due(op, paid) })
			return
		}
	}
	c.attempt(op, func(a answer) bool {
		if c.budget != nil {
			c.budget.requested(a.failed, throttled(a), true, paid, c.now)
		}
		return true
	}, func(a answer) { c.failed(op, a) })
}

// throttled reports whether the target rejected the request because of its load.
func throttled(a answer) bool {
	return a.failed && (a.failure.Code == "429" || a.failure.Message == overloaded)
}

// byPolicy is the delay decided by one of Rebound's policies, without any gate.
func byPolicy(w *world, p *policy.Policy, signals func() policy.Signals) func(*operation, answer) (time.Duration, bool) {
	return func(op *operation, a answer) (time.Duration, bool) {
		d := w.decide(p, op, a, signals())
		return d.Delay, d.Retry
	}
}

func noSignals() policy.Signals { return policy.Signals{} }
