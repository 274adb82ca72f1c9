package handlers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/time/rate"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/internal/natsconn"
	"github.com/rebound-mq/rebound/scheduler"
)

func apiError(code jetstream.ErrorCode) error {
	return &jetstream.APIError{Code: 400, ErrorCode: code, Description: "made up"}
}

func TestAnswerOf_SaysWhatTheServerProves(t *testing.T) {
	for says, c := range map[string]struct {
		err  error
		want answer
	}{
		"nothing is wrong":                      {nil, answerDone},
		"another version is stored":             {apiError(10071), answerMoved},
		"what was to be removed is gone":        {scheduler.ErrMoved, answerMoved},
		"another write to the slot is underway": {apiError(10164), answerPending},
		"the same message id is underway":       {apiError(10158), answerPending},
		"there is no leader":                    {apiError(10008), answerNotNow},
		"no stream answers":                     {jetstream.ErrNoStreamResponse, answerNotNow},
		"nobody listens":                        {nats.ErrNoResponders, answerNotNow},
		"any other refusal":                     {apiError(10077), answerNotNow},
		"the time is over":                      {context.DeadlineExceeded, answerUnknown},
		"the client waited in vain":             {nats.ErrTimeout, answerUnknown},
		"the connection was lost":               {nats.ErrDisconnected, answerUnknown},
		"the message is too large":              {apiError(10054), answerNever},
		"its headers are too large":             {apiError(10097), answerNever},
		"the payload is too large":              {nats.ErrMaxPayload, answerNever},
		"the connection is closed":              {nats.ErrConnectionClosed, answerNever},
		"it says itself that it stays":          {permanentError{errors.New("no state")}, answerNever},
	} {
		t.Run(says, func(t *testing.T) {
			if got := answerOf(c.err); got != c.want {
				t.Errorf("answerOf(%v) = %d, want %d", c.err, got, c.want)
			}
			if c.err == nil {
				return
			}
			if got := answerOf(fmt.Errorf("parking: %w", c.err)); got != c.want {
				t.Errorf("answerOf of the same error, wrapped = %d, want %d", got, c.want)
			}
		})
	}
}

// scripted is JetStream that answers publishes with errors, one after the other, and
// then stores.
type scripted struct {
	jetstream.JetStream
	errs []error
	sent []*nats.Msg
}

func (s *scripted) PublishMsg(_ context.Context, m *nats.Msg, _ ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	s.sent = append(s.sent, &nats.Msg{Subject: m.Subject, Header: cloneHeader(m.Header)})
	if n := len(s.sent) - 1; n < len(s.errs) && s.errs[n] != nil {
		return nil, s.errs[n]
	}
	return &jetstream.PubAck{Sequence: 7}, nil
}

func TestStore_PlaceDoesWhatTheAnswersProve(t *testing.T) {
	for says, c := range map[string]struct {
		errs      []error
		tries     int
		moved     bool
		contested bool
	}{
		"stored at once":                             {nil, 1, false, false},
		"pending and then stored":                    {[]error{apiError(10164)}, 2, false, false},
		"no leader for a while and then stored":      {[]error{apiError(10008), nats.ErrNoResponders}, 3, false, false},
		"unknown and then stored, which is a fork":   {[]error{context.DeadlineExceeded}, 2, false, true},
		"moved at once":                              {[]error{apiError(10071)}, 1, true, false},
		"pending and then moved":                     {[]error{apiError(10164), apiError(10164), apiError(10071)}, 3, true, false},
		"unknown, pending and then moved":            {[]error{nats.ErrTimeout, apiError(10164), apiError(10071)}, 3, true, true},
		"unknown twice and then stored, as one fork": {[]error{nats.ErrTimeout, nats.ErrTimeout}, 3, false, true},
	} {
		t.Run(says, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				js := &scripted{errs: c.errs}
				s := &store{
					js: js, log: slog.New(slog.DiscardHandler), warn: rate.Sometimes{First: 1}, metrics: modelMetrics(),
					random: func() float64 { return 0.5 }, clock: natsconn.NewClock(nil), storage: &storage{},
				}
				stored := time.Now().Add(-time.Second).UTC()
				op := &events.Operation{ID: "0123456789abcdef0123456789abcdef", Service: "s", Operation: "o", Attempt: 1, Due: time.Now()}
				err := s.Place(t.Context(), op, scheduler.Message{Version: 5, Stored: stored})
				if moved := errors.Is(err, scheduler.ErrMoved); moved != c.moved || err != nil && !moved {
					t.Errorf("the error is %v, want moved %v", err, c.moved)
				}
				if len(js.sent) != c.tries {
					t.Fatalf("it was sent %d times, want %d", len(js.sent), c.tries)
				}
				last := js.sent[len(js.sent)-1]
				if got := last.Header.Get(jetstream.ExpectedLastSubjSeqHeader); got != "5" {
					t.Errorf("the last try expects version %s, want 5", got)
				}
				state, err := wire.ReadState(last.Header)
				if err != nil {
					t.Fatal(err)
				}
				if contested := state.Contested.Equal(stored) && state.Repeats == events.AnyAttempt; contested != c.contested {
					t.Errorf("the state sent last is contested since %s with repeats %d, want a fork: %v", state.Contested, state.Repeats, c.contested)
				}
			})
		})
	}
}
