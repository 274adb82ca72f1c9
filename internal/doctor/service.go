package doctor

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/session"
	"github.com/rebound-mq/rebound/internal/wording"
	"github.com/rebound-mq/rebound/scheduler/gate"
	"github.com/rebound-mq/rebound/schemas"
)

func (d *Diagnosis) service(ctx context.Context, s *session.Session, instances []schemas.Health) {
	var status schemas.Status
	switch err := s.Request(ctx, nats.NewMsg(s.Subjects.Endpoint("status")), &status); {
	case errors.Is(err, nats.ErrNoResponders):
		d.add(Warn, "service", session.NoService, session.StartService)
	case err != nil:
		d.add(Fail, "service", wording.Sentence(err), "look at the log of the service")
	default:
		d.add(OK, "service", fmt.Sprintf("instance %s, version %s, since %s", status.Instance, status.Version, wording.Moment(status.Started)), "")
		d.policiesInForce(status.Policies)
		d.submitted(&status)
		d.paused(status.Pauses)
		d.held(&status, schemas.AllHeld(instances))
	}
}

// paused tells what operators have paused.
func (d *Diagnosis) paused(pauses []events.Pause) {
	if len(pauses) == 0 {
		return
	}
	texts := make([]string, len(pauses))
	for i, p := range pauses {
		texts[i] = p.Pattern.String() + " since " + wording.Moment(p.At)
		if p.By != "" {
			texts[i] += " by " + p.By
		}
		if !p.Until.IsZero() {
			texts[i] += " until " + wording.Moment(p.Until)
		}
		if p.Note != "" {
			texts[i] += " (" + p.Note + ")"
		}
	}
	d.add(Warn, "pauses", wording.OneLine(wording.First(maxPauses, texts)), "`rebound resume` ends them")
}

// maxPauses is how many pauses are told of.
const maxPauses = 5

// held checks whether operations are held, and says why.
func (d *Diagnosis) held(status *schemas.Status, keys []schemas.HeldKey) {
	const check = "held operations"
	for _, k := range keys {
		says := fmt.Sprintf("%d of %s, since %s: %s", k.Held, k.Key, wording.Moment(k.Since), k.Because)
		if !k.Next.IsZero() {
			says += "; asked again " + wording.Moment(k.Next)
		}
		d.add(Warn, check, says, remedies[k.Cause])
	}
	if len(keys) == 0 {
		d.add(OK, check, fmt.Sprintf("%d, none behind a gate that is shut", status.Held), "")
	}
}

// remedies say what to do about what holds a key.
var remedies = map[gate.Cause]string{
	gate.CausePaused:          "`rebound status` shows who has paused it; `rebound resume` ends that",
	gate.CauseAbsent:          "start the target, or correct its name in the policy or the submissions",
	gate.CauseBreaker:         "look at the target; `rebound breaker show` has its last failures, and probes find out when it is well",
	gate.CauseDependency:      "look at the services that the policy's dependsOn names",
	gate.CauseBackpressure:    "look at what the failing services have in common",
	gate.CauseConcurrency:     "they go as others end; a target that hangs is cut off by attemptTimeout",
	gate.CauseBudgetPerMinute: "they go as the minute passes; raise retryBudgetPerMinute if the target stands more",
	gate.CauseBudgetPerHour:   "they go as the hour passes; raise retryBudgetPerHour if the target stands more",
	gate.CauseRetryBudget:     "look at the target, most of its attempts fail",
	gate.CauseGovernor:        "they go at the pace that the target stands",
}

// manySubmitted is how many waiting submissions of one service are worth a warning.
const manySubmitted = 10_000

// submitted checks whether a service floods the intake.
func (d *Diagnosis) submitted(status *schemas.Status) {
	const check = "submissions"
	if len(status.Waiting) == 0 {
		d.add(OK, check, "none wait to be taken in", "")
		return
	}
	most := status.Waiting[0]
	says := fmt.Sprintf("%d wait to be taken in, %d of them of service %s", status.Submitted, most.Submitted, most.Service)
	switch {
	case status.Limit > 0 && most.Submitted >= status.Limit:
		d.add(Warn, check, fmt.Sprintf("%s, which may have %d; more are refused", says, status.Limit), "find out why it submits so many, or raise --max-submitted")
	case most.Submitted >= manySubmitted:
		d.add(Warn, check, says, "the others go ahead of them; --max-submitted bounds what one service may have waiting")
	default:
		d.add(OK, check, says, "")
	}
}

func (d *Diagnosis) policiesInForce(p schemas.PolicyState) {
	const check = "policies in force"
	if p.Refused != nil {
		d.add(Fail, check, fmt.Sprintf("%s; revision %d was refused: %s", p.Name, p.Refused.Revision, wording.OneLine(p.Refused.Problem)),
			"correct the file and apply it, or go back with `rebound policy rollback`")
		return
	}
	d.add(OK, check, p.Name, "")
}

// instances tells of the state of every instance. err is why not all were heard.
func (d *Diagnosis) instances(instances []schemas.Health, err error) {
	if err != nil {
		d.add(Fail, "instances", wording.Sentence(err), "look at the log of the service")
	}
	for _, i := range instances {
		check := "instance " + i.Instance
		if i.NotReady != "" {
			d.add(Fail, check, "not ready: "+i.NotReady, "what is waiting goes on by itself when this is over")
		}
		for _, w := range i.Warnings {
			d.add(Warn, check, w, "the service works, and not as it should")
		}
	}
}
