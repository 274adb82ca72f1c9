package scheduler

import (
	"time"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/health"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

// What follows is for those who try operations again in their own process, with
// no store between the attempts: they share the pipeline's decisions and events.

// Decide asks the policy what becomes of op after a failure of its attempt
// op.Attempt, with what p.Health knows of the service, and writes the decision
// into op. Of p it needs Health and Random.
func (p *Pipeline) Decide(policy *policy.Policy, op *events.Operation, failure policy.Failure, now time.Time) policy.Decision {
	return p.decide(policy, op, failure, op.PreviousDelay(), now)
}

// Scheduled returns the event that tells of a decision to try op again.
func Scheduled(op *events.Operation, d policy.Decision, failure policy.Failure) events.Scheduled {
	return scheduled(op, d, failure)
}

// Health returns what an attempt says of its target's health, with the response
// time that it counts with; timeout is the policy's AttemptTimeout.
func (r Reply) Health(timeout time.Duration) (health.Result, time.Duration) {
	return healthOf(r, timeout)
}
