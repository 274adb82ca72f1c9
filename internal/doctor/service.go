package doctor

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/internal/session"
	"github.com/rebound-mq/rebound/internal/wording"
	"github.com/rebound-mq/rebound/schemas"
)

func (d *Diagnosis) service(ctx context.Context, s *session.Session) {
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
	}
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

// instances asks every instance for its state.
func (d *Diagnosis) instances(ctx context.Context, s *session.Session) {
	instances, err := session.Health(ctx, s)
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
