package opstore

import (
	"errors"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/scheduler"
)

// answer is what the reply of JetStream to a request, or its absence, proves.
type answer int

const (
	// answerDone: the request was carried out.
	answerDone answer = iota
	// answerMoved: nothing was stored, because the slot does not hold the expected
	// version.
	answerMoved
	// answerPending: nothing was stored, because another write to the slot is in
	// process and may still succeed or fail.
	answerPending
	// answerNotNow: nothing was stored, for a temporary reason.
	answerNotNow
	// answerNever: nothing was stored, and trying again is useless.
	answerNever
	// answerUnknown: whether it was stored is not known.
	answerUnknown
)

const (
	// The codes for a message that the server will never accept.
	codeMessageTooLarge = jetstream.ErrorCode(10054)
	codeHeaderTooLarge  = jetstream.ErrorCode(10097)
)

// answerOf says what an error proves. This is the one place that knows.
//
// In a cluster a compare-and-set is refused in two ways: because of a version that
// is stored, and because another proposal on the subject is in process, see
// checkMsgHeadersPreClusteredProposal of nats-server. The second does not say which
// will win.
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
	case errors.As(err, new(*jetstream.APIError)), errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, nats.ErrNoResponders),
		errors.Is(err, errFull):
		return answerNotNow
	}
	return answerUnknown
}

// permanentError marks an error that a retry cannot fix.
type permanentError struct{ error }

func (p permanentError) Unwrap() error { return p.error }
