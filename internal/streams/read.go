package streams

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/rebound-mq/rebound/events/wire"
)

// page is the number of messages per request.
const page = 256

// readTimeout bounds the wait for an answer, which may be lost.
const readTimeout = 5 * time.Second

// Scan iterates over the messages of a stream that match subject, from start, a sequence or a
// time, to the end of the stream.
func Scan(ctx context.Context, js jetstream.JetStream, stream, subject string, start jetstreamext.GetBatchOpt) iter.Seq2[*jetstream.RawStreamMsg, error] {
	return func(yield func(*jetstream.RawStreamMsg, error) bool) {
		for {
			n, last := 0, uint64(0)
			for m, err := range batch(ctx, js, stream, page, start, jetstreamext.GetBatchSubject(subject)) {
				if !yield(m, err) || err != nil {
					return
				}
				n, last = n+1, m.Sequence
			}
			if n == 0 {
				return
			}
			start = jetstreamext.GetBatchSeq(last + 1)
		}
	}
}

// Count returns how many messages of a stream match subject. Any replica may answer, which may
// not know the latest messages yet.
func Count(ctx context.Context, js jetstream.JetStream, stream, subject string) (uint64, error) {
	for m, err := range Page(ctx, js, stream, subject, 0, 1) {
		if err != nil {
			return 0, fmt.Errorf("counting %s in stream %s: %w", subject, stream, err)
		}
		after, err := Following(m)
		if err != nil {
			return 0, fmt.Errorf("counting %s in stream %s: %w", subject, stream, err)
		}
		return after + 1, nil
	}
	return 0, nil
}

// headerPending is the number of messages that follow the one returned by a batched get.
const headerPending = "Nats-Num-Pending"

// Following returns how many messages on the same filter followed one returned by [Page] or
// [Scan].
func Following(m *jetstream.RawStreamMsg) (uint64, error) {
	n, err := strconv.ParseUint(wire.HeaderValue(m.Header, headerPending), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("header %s: %w", headerPending, err)
	}
	return n, nil
}

// pageBytes is when a page ends: it exceeds this by one message at most.
const pageBytes = 4 << 20

// Page iterates over at most n messages of a stream that match subject, from a sequence on; fewer
// if they are large. The server walks all matching messages for every page, and answers nothing
// else on the connection meanwhile, so small pages of many messages are expensive.
func Page(ctx context.Context, js jetstream.JetStream, stream, subject string, sequence uint64, n int) iter.Seq2[*jetstream.RawStreamMsg, error] {
	options := []jetstreamext.GetBatchOpt{jetstreamext.GetBatchSubject(subject), jetstreamext.GetBatchMaxBytes(pageBytes)}
	if sequence > 0 {
		options = append(options, jetstreamext.GetBatchSeq(sequence))
	}
	return batch(ctx, js, stream, n, options...)
}

// batch iterates over the answer to one request of at most n messages, once it is complete. An
// empty answer is not an error, but no answer is, which the client library does not report.
func batch(ctx context.Context, js jetstream.JetStream, stream string, n int, options ...jetstreamext.GetBatchOpt) iter.Seq2[*jetstream.RawStreamMsg, error] {
	return func(yield func(*jetstream.RawStreamMsg, error) bool) {
		messages, err := getBatch(ctx, js, stream, n, options...)
		for _, m := range messages {
			if !yield(m, nil) {
				return
			}
		}
		if err != nil {
			yield(nil, err)
		}
	}
}

func getBatch(ctx context.Context, js jetstream.JetStream, stream string, n int, options ...jetstreamext.GetBatchOpt) (messages []*jetstream.RawStreamMsg, err error) {
	if js, err = withAPIPrefix(js); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	answers, err := jetstreamext.GetBatch(ctx, js, stream, n, options...)
	if err != nil {
		return nil, err
	}
	for m, err := range answers {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			return messages, nil
		}
		if err != nil {
			return messages, err
		}
		messages = append(messages, m)
	}
	if err := ctx.Err(); err != nil {
		return messages, fmt.Errorf("stream %s does not answer: %w", stream, err)
	}
	return messages, nil
}

// Selection selects the message that [LeaderGet] reads.
type Selection struct {
	Sequence uint64 `json:"seq,omitempty"`
	Subject  string `json:"last_by_subj,omitempty"`
	Next     string `json:"next_by_subj,omitempty"`
}

// AtSequence selects the message with this sequence.
func AtSequence(sequence uint64) Selection { return Selection{Sequence: sequence} }

// LastBySubject selects the last message on a subject, which may contain wildcards.
func LastBySubject(subject string) Selection { return Selection{Subject: subject} }

// NextBySubject selects the first message from a sequence on that matches subject, which may
// contain wildcards.
func NextBySubject(sequence uint64, subject string) Selection {
	return Selection{Sequence: sequence, Next: subject}
}

// LeaderGet reads one message from the leader of a stream. Unlike a direct get, which any replica
// answers, it sees everything acknowledged before. If there is no such message, [IsGone] is true
// of the error.
func LeaderGet(ctx context.Context, js jetstream.JetStream, stream string, selection Selection) (*jetstream.RawStreamMsg, error) {
	request, err := json.Marshal(selection)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	answer, err := js.Conn().RequestWithContext(ctx, APIPrefix(js)+"STREAM.MSG.GET."+stream, request)
	if err != nil {
		return nil, err
	}
	var reply struct {
		Error   *jetstream.APIError `json:"error"`
		Message *struct {
			Subject  string    `json:"subject"`
			Sequence uint64    `json:"seq"`
			Header   []byte    `json:"hdrs"`
			Data     []byte    `json:"data"`
			Time     time.Time `json:"time"`
		} `json:"message"`
	}
	if err := json.Unmarshal(answer.Data, &reply); err != nil {
		return nil, fmt.Errorf("decoding the answer of stream %s: %w", stream, err)
	}
	switch {
	case reply.Error != nil:
		return nil, reply.Error
	case reply.Message == nil:
		return nil, fmt.Errorf("the answer of stream %s has no message", stream)
	}
	m := &jetstream.RawStreamMsg{
		Subject: reply.Message.Subject, Sequence: reply.Message.Sequence, Data: reply.Message.Data, Time: reply.Message.Time,
	}
	if len(reply.Message.Header) > 0 {
		if m.Header, err = nats.DecodeHeadersMsg(reply.Message.Header); err != nil {
			return nil, fmt.Errorf("decoding the headers of message %d of stream %s: %w", m.Sequence, stream, err)
		}
	}
	return m, nil
}

// ErrBehind means that the leader of a stream has not yet reached a message that is known to be
// stored.
var ErrBehind = errors.New("the stream's leader is behind")

// GetAt reads a message that was once stored from the stream's leader. gone reports whether it
// was removed, which is proved if the leader knows its sequence or a later one. A newly elected
// leader of a replicated stream may not have reached it yet: the error is then [ErrBehind].
func GetAt(ctx context.Context, js jetstream.JetStream, stream string, sequence uint64) (m *jetstream.RawStreamMsg, gone bool, err error) {
	m, err = LeaderGet(ctx, js, stream, AtSequence(sequence))
	if !IsGone(err) {
		return m, false, err
	}
	s, err := js.Stream(ctx, stream)
	if err != nil {
		return nil, false, fmt.Errorf("reading stream %s: %w", stream, err)
	}
	if last := s.CachedInfo().State.LastSeq; last < sequence && s.CachedInfo().Config.Replicas > 1 {
		return nil, false, fmt.Errorf("reading message %d of stream %s, of which %d is the last: %w", sequence, stream, last, ErrBehind)
	}
	// The leader may have reached it between the two answers.
	m, err = LeaderGet(ctx, js, stream, AtSequence(sequence))
	if gone = IsGone(err); gone {
		err = nil
	}
	return m, gone, err
}

// Delete removes a message from a stream. If it is not there, [IsGone] is true of the error.
func Delete(ctx context.Context, js jetstream.JetStream, stream string, sequence uint64) error {
	s, err := js.Stream(ctx, stream)
	if err != nil {
		return err
	}
	return s.DeleteMsg(ctx, sequence)
}

// IsGone reports whether err means that a message is not in its stream, as far as the answering
// server knows.
func IsGone(err error) bool {
	var api *jetstream.APIError
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return true
	case errors.As(err, &api):
		return api.ErrorCode == jetstream.JSErrCodeMessageNotFound || saysGone(api.Description)
	case errors.Is(err, jetstream.ErrMsgDeleteUnsuccessful):
		// The client library keeps only the text of the server's answer.
		return saysGone(err.Error())
	}
	return false
}

func saysGone(text string) bool {
	return strings.Contains(text, "no message found") || strings.Contains(text, "sequence") && strings.Contains(text, "not found")
}
