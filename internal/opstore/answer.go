package opstore

import (
	"errors"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/scheduler"
)

// answer is what the reply of JetStream to a request, or the lack of one, proves.
type answer int

const (
	// answerDone: what was asked for is done.
	answerDone answer = iota
	// answerMoved: nothing was stored, because another version stands in the slot
	// than the one that was expected.
	answerMoved
	// answerPending: nothing was stored, because another write to the slot is in
	// process, whose end is not known yet.
	answerPending
	// answerNotNow: nothing was stored, for a reason that passes.
	answerNotNow
	// answerNever: nothing was stored, and it is of no use to try again.
	answerNever
	// answerUnknown: nobody knows whether it was stored.
	answerUnknown
)

const (
	// What the server says of a message that it will never take.
	codeMessageTooLarge = jetstream.ErrorCode(10054)
	codeHeaderTooLarge  = jetstream.ErrorCode(10097)
)

// answerOf says what an error proves. This is the one place that knows.
//
// In a cluster a compare-and-set is refused in two ways: because of a version that
// is stored, and because another proposal on the subject is in process, see
// checkMsgHeadersPreClusteredProposal of nats-server. The second says nothing of
// who will win.
func answerOf(err error) answer {
	switch {
	case err == nil:
		return answerDone
	case errors.Is(err, scheduler.ErrMoved), streams.HasCode(err, jetstream.JSErrCodeStreamWrongLastSequence):
		return answerMoved
	case streams.HasCode(err, jetstream.JSErrCodeStreamWrongLastSequenceConstant, streams.CodeWriteInProcess):
		return answerPending
	case errors.As(err, new(permanentError)), streams.HasCode(err, codeMessageTooLarge, codeHeaderTooLarge),
		errors.Is(err, nats.ErrMaxPayload), errors.Is(err, nats.ErrConnectionClosed):
		return answerNever
	case errors.As(err, new(*jetstream.APIError)), errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, nats.ErrNoResponders):
		return answerNotNow
	}
	return answerUnknown
}

// permanentError marks an error that no repetition mends.
type permanentError struct{ error }

func (p permanentError) Unwrap() error { return p.error }
