package inbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/internal/backoff"
	"github.com/rebound-mq/rebound/internal/streams"
)

const (
	// blips is how often a publish is repeated that no stream hears, and blipPause the pause
	// before: a stream has no leader for a moment while another is elected.
	blips     = 2
	blipPause = 250 * time.Millisecond
)

// Publisher publishes messages to streams. It is [jetstream.JetStream.PublishMsg] on an
// [Inbox], which costs less. It is safe for concurrent use.
type Publisher struct{ Inbox *Inbox }

// PublishMsg publishes a message, whose Reply it sets, and waits until a stream has
// acknowledged it, at most [streams.CallTimeout]. It returns the errors of
// [jetstream.JetStream.PublishMsg], or [nats.ErrPermissionViolation] if the server denies the
// publish. Options are not supported; set the headers instead.
func (p Publisher) PublishMsg(ctx context.Context, msg *nats.Msg, options ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	if len(options) > 0 {
		return nil, errors.New("a publisher supports no options")
	}
	a := p.publish(ctx, msg, nil)
	return a.Ack, a.Err
}

// Answers are those of streams to two messages.
type Answers struct {
	// Ack acknowledges the first message; it is nil if Err says why none came.
	Ack *jetstream.PubAck
	Err error
	// Followed is whether the second message was published, and NextErr why it is not known to
	// be stored.
	Followed bool
	NextErr  error
}

// PublishBoth publishes first like [Publisher.PublishMsg] and, as soon as a stream has stored it
// as new and not as a duplicate, next, each within [streams.CallTimeout]. It waits for both
// answers at once, which costs less than two publishes. The caller must not use next again.
func (p Publisher) PublishBoth(ctx context.Context, first, next *nats.Msg) Answers {
	return p.publish(ctx, first, &sequel{next, storesNew})
}

// publish publishes msg and, unless that is nil, its sequel.
func (p Publisher) publish(ctx context.Context, msg *nats.Msg, then *sequel) Answers {
	for blip := 0; ; blip++ {
		reply, end := p.Inbox.request(ctx, msg, then, streams.CallTimeout)
		switch {
		case reply != nil:
			return bothAnswers(reply, end)
		case end.err == nil:
			ack, err := readAck(end.reply.Data)
			return Answers{Ack: ack, Err: err}
		case !errors.Is(end.err, nats.ErrNoResponders):
			return Answers{Err: end.err}
		case blip == blips, !backoff.Sleep(ctx, blipPause):
			return Answers{Err: jetstream.ErrNoStreamResponse}
		}
	}
}

// storesNew reports whether a reply acknowledges a message that is no duplicate.
func storesNew(reply *nats.Msg) bool {
	ack, err := readAck(reply.Data)
	return err == nil && !ack.Duplicate
}

// bothAnswers reads the reply to a message and how the one that followed it ended.
func bothAnswers(reply *nats.Msg, next ending) Answers {
	a := Answers{Followed: true, NextErr: next.err}
	a.Ack, a.Err = readAck(reply.Data)
	switch {
	case errors.Is(next.err, nats.ErrNoResponders):
		a.NextErr = jetstream.ErrNoStreamResponse
	case next.err == nil:
		_, a.NextErr = readAck(next.reply.Data)
	}
	return a
}

// readAck reads the answer of a stream to a publish.
func readAck(data []byte) (*jetstream.PubAck, error) {
	if ack, ok := readPlainAck(data); ok {
		return ack, nil
	}
	var answer struct {
		Error *jetstream.APIError `json:"error"`
		jetstream.PubAck
	}
	switch err := json.Unmarshal(data, &answer); {
	case err != nil:
		return nil, jetstream.ErrInvalidJSAck
	case answer.Error != nil:
		return nil, fmt.Errorf("nats: %w", answer.Error)
	case answer.Stream == "":
		return nil, jetstream.ErrInvalidJSAck
	}
	return &answer.PubAck, nil
}

// readPlainAck reads the acknowledgement of a message that was stored, as nats-server writes it,
// without reflection. ok is false for any other answer.
func readPlainAck(data []byte) (ack *jetstream.PubAck, ok bool) {
	rest, begins := bytes.CutPrefix(data, []byte(`{"stream":"`))
	stream, rest, named := bytes.Cut(rest, []byte(`","seq":`))
	sequence, ends := bytes.CutSuffix(rest, []byte(`}`))
	if !begins || !named || !ends || len(stream) == 0 || bytes.ContainsAny(stream, `"\`) {
		return nil, false
	}
	n, err := strconv.ParseUint(string(sequence), 10, 64)
	if err != nil {
		return nil, false
	}
	return &jetstream.PubAck{Stream: string(stream), Sequence: n}, true
}
