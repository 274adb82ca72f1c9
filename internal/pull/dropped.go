package pull

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// dropped is a message that the client library dropped, read from the stream. Its consumer
// waits for an acknowledgement that cannot be sent, so it is acknowledged by removing it.
type dropped struct {
	jetstream.Msg // nil; the methods that a [Puller] calls are defined below
	raw           *jetstream.RawStreamMsg
	remove        func() error
}

func (m dropped) Subject() string      { return m.raw.Subject }
func (m dropped) Headers() nats.Header { return m.raw.Header }
func (m dropped) Data() []byte         { return m.raw.Data }
func (m dropped) Ack() error           { return m.remove() }

// What is not removed is found again.
func (m dropped) Nak() error                       { return nil }
func (m dropped) NakWithDelay(time.Duration) error { return nil }

// HandleDropped handles a message that the consumer has delivered and the client library has
// dropped, because it took it for a status of the server. remove removes the message from
// the stream. Another instance may handle it too. HandleDropped returns when it is handled.
func (p *Puller) HandleDropped(ctx context.Context, raw *jetstream.RawStreamMsg, remove func(context.Context) error) {
	if p.config.Limit.acquire(ctx, 1) == 0 {
		return // ctx has ended; the message is found again
	}
	defer p.config.Limit.release(1)
	m := &Message{
		msg:    dropped{raw: raw, remove: func() error { return remove(ctx) }},
		meta:   &jetstream.MsgMetadata{Stream: p.Stream(), Consumer: p.Name(), NumDelivered: 1, Sequence: jetstream.SequencePair{Stream: raw.Sequence}, Timestamp: raw.Time},
		puller: p, forgotten: true, renewed: time.Now(),
	}
	err := ErrGiveBack
	if size := p.config.Bytes.of(m); p.config.Bytes.acquire(ctx, size) == nil {
		err = p.handle(ctx, m)
		if later := (*laterError)(nil); errors.As(err, &later) {
			err = later.do(ctx)
		}
		p.config.Bytes.release(size)
		p.handled.Add(1)
	}
	p.settle(ctx, m, err)
}
