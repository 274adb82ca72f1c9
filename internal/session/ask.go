package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/synadia-io/orbit.go/natsext"

	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/schemas"
)

const (
	// AnswerTimeout bounds the wait for an answer.
	AnswerTimeout = 10 * time.Second
	// stall is how long to wait for a further instance's answer after each answer.
	stall = 250 * time.Millisecond
	// allTimeout bounds the wait for all of them.
	allTimeout = 2 * time.Second
)

// AnswerError is an error with which the service answered.
type AnswerError struct{ Code, Text string }

func (e *AnswerError) Error() string { return e.Text }

// answerError returns the error in an answer, or nil.
func answerError(answer *nats.Msg) error {
	code, text := wire.MicroError(answer.Header)
	if code == "" {
		return nil
	}
	return &AnswerError{Code: code, Text: text}
}

// Ask sends a request, empty if request is nil, to an endpoint of the service and decodes the
// answer.
func (s *Session) Ask(ctx context.Context, endpoint string, request, into any) error {
	m := nats.NewMsg(s.Subjects.Endpoint(endpoint))
	if request != nil {
		var err error
		if m.Data, err = json.Marshal(request); err != nil {
			return fmt.Errorf("encoding the request: %w", err)
		}
	}
	err := s.Request(ctx, m, into)
	if errors.Is(err, nats.ErrNoResponders) {
		return s.NoService(StartService)
	}
	return err
}

// Request sends a request to the service and decodes the answer. If the service answers with an
// error it returns an [*AnswerError], and if no service answers [nats.ErrNoResponders].
func (s *Session) Request(ctx context.Context, m *nats.Msg, into any) error {
	ctx, cancel := context.WithTimeout(ctx, AnswerTimeout)
	defer cancel()
	answer, err := s.NC.RequestMsgWithContext(ctx, m)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no answer within %s: %w", AnswerTimeout, err)
	case err != nil:
		return err
	}
	if err := answerError(answer); err != nil {
		return err
	}
	if err := json.Unmarshal(answer.Data, into); err != nil {
		return fmt.Errorf("decoding the answer of the service: %w", err)
	}
	return nil
}

// AskAll asks every instance. The result is empty if no instance is running, or only older ones
// without the endpoint.
func AskAll[T any](ctx context.Context, s *Session, endpoint, what string) ([]T, error) {
	ctx, cancel := context.WithTimeout(ctx, allTimeout)
	defer cancel()
	replies, err := natsext.RequestMany(ctx, s.NC.Conn, s.Subjects.Endpoint(endpoint), nil, natsext.RequestManyStall(stall))
	if err != nil {
		return nil, fmt.Errorf("asking for %s: %w", what, err)
	}
	all := []T{}
	for m, err := range replies {
		switch {
		case errors.Is(err, nats.ErrNoResponders):
			return all, nil
		case err != nil:
			return nil, fmt.Errorf("asking for %s: %w", what, err)
		}
		if err := answerError(m); err != nil {
			return nil, err
		}
		var answer T
		if err := json.Unmarshal(m.Data, &answer); err != nil {
			return nil, fmt.Errorf("decoding %s: %w", what, err)
		}
		all = append(all, answer)
	}
	return all, nil
}

// Health asks every instance for the health of the services.
func Health(ctx context.Context, s *Session) ([]schemas.Health, error) {
	return AskAll[schemas.Health](ctx, s, "health", "the health of the services")
}
