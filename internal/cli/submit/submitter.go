package submit

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/internal/session"
	"github.com/rebound-mq/rebound/schemas"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// submitTries is how often a submission is sent until it is answered. Its id makes it
// the same submission each time.
const submitTries = 3

// submission is one operation to submit.
type submission struct {
	service, operation string
	event              *event.Event
	// header holds headers besides the event's own.
	header map[string]string
}

// submitted is the result of a submission.
type submitted struct {
	schemas.Submitted
	// stored is whether it was stored in JetStream because no service answered.
	stored bool
}

// submitter submits operations. It is safe for concurrent use.
type submitter struct {
	session *session.Session
	// alone is whether no service answers.
	alone atomic.Bool
}

func newSubmitter(s *session.Session) *submitter { return &submitter{session: s} }

// submit hands a submission to the service, which checks it. If none answers, submit
// stores it for one.
func (s *submitter) submit(ctx context.Context, sub *submission) (submitted, error) {
	m, err := s.message(sub)
	if err != nil {
		return submitted{}, err
	}
	for try := 1; !s.alone.Load(); try++ {
		request := *m
		request.Subject = s.session.Subjects.Endpoint("submit." + sub.service + "." + sub.operation)
		var answer schemas.Submitted
		err := s.session.Request(ctx, &request, &answer)
		switch {
		case err == nil:
			return submitted{Submitted: answer}, nil
		case errors.Is(err, nats.ErrNoResponders):
			s.alone.Store(true)
		case try == submitTries, !errors.Is(err, context.DeadlineExceeded), ctx.Err() != nil:
			return submitted{}, err
		}
	}
	return s.store(ctx, m)
}

// message encodes a submission and checks its size.
func (s *submitter) message(sub *submission) (*nats.Msg, error) {
	m, err := wire.EncodeCloudEvent(s.session.Subjects.Submit(sub.service, sub.operation), sub.event)
	if err != nil {
		return nil, err
	}
	for name, value := range sub.header {
		m.Header[name] = []string{value}
	}
	if size, limit := int64(m.Size()-len(m.Subject)), s.session.NC.MaxPayload(); size > limit {
		return nil, fmt.Errorf("the submission has %d bytes, %d of them payload, more than the server's maximum of %d", size, len(m.Data), limit)
	}
	return m, nil
}

// store publishes a submission where a service will find it.
func (s *submitter) store(ctx context.Context, m *nats.Msg) (submitted, error) {
	op, err := wire.DecodeSubmission(s.session.Subjects, wire.Submission{Subject: m.Subject, Header: m.Header, Data: m.Data, Received: time.Now()})
	if err != nil {
		return submitted{}, err
	}
	wire.HideStatus(m)
	ctx, cancel := context.WithTimeout(ctx, session.AnswerTimeout)
	defer cancel()
	ack, err := s.session.JS.PublishMsg(ctx, m, jetstream.WithMsgID(op.MessageID("submit")))
	if err != nil {
		return submitted{}, s.session.Explain(fmt.Errorf("storing the submission: %w", err))
	}
	return submitted{stored: true, Submitted: schemas.Submitted{
		ID: op.ID, EventID: op.EventID, Source: op.Source, Stream: ack.Stream, Sequence: ack.Sequence, Duplicate: ack.Duplicate,
	}}, nil
}
