package opstore

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

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
