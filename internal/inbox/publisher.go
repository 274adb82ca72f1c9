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
	for blip := 0; ; blip++ {
		reply, err := p.Inbox.Request(ctx, msg, streams.CallTimeout)
		switch {
		case err == nil:
			return readAck(reply.Data)
		case !errors.Is(err, nats.ErrNoResponders):
			return nil, err
		case blip == blips, !backoff.Sleep(ctx, blipPause):
			return nil, jetstream.ErrNoStreamResponse
		}
	}
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
