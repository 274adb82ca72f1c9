package client

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/time/rate"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
)

const (
	// maxEvents bounds the events that wait to be published. More are dropped, because the work
	// must not wait for its events.
	maxEvents = 4096
	// publishBatch bounds the events that are unacknowledged at once.
	publishBatch = 256
	// publishTimeout bounds the wait for the acknowledgement of an event.
	publishTimeout = 5 * time.Second
	// publishTries is how often an event is sent. Its message id prevents duplicates.
	publishTries = 3
	// warnEvery is how often the log repeats a warning.
	warnEvery = time.Minute
)

// pendingEvent is an event that waits to be published.
type pendingEvent struct {
	subject, name, id string
	about             events.About
	at                time.Time
	data              any
}

// publisher publishes events in the background. An event that cannot be published is logged,
// counted and dropped, because the operation matters more than its events.
type publisher struct {
	js    jetstream.JetStream
	log   *slog.Logger
	warn  rate.Sometimes
	queue chan pendingEvent
	done  chan struct{} // closed when run has ended

	mu     sync.RWMutex // guards closed, and keeps publish from sending on a closed queue
	closed bool
	lost   atomic.Uint64
}

func newPublisher(js jetstream.JetStream, log *slog.Logger) *publisher {
	return &publisher{
		js: js, log: log, warn: rate.Sometimes{First: 1, Interval: warnEvery},
		queue: make(chan pendingEvent, maxEvents), done: make(chan struct{}),
	}
}

// publish queues an event. It never blocks.
func (p *publisher) publish(e pendingEvent) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.closed {
		p.lose(1, ErrClosed)
		return
	}
	select {
	case p.queue <- e:
	default:
		p.lose(1, fmt.Errorf("%d events are waiting already", maxEvents))
	}
}

// run publishes until the queue is closed and empty, or ctx ends.
func (p *publisher) run(ctx context.Context) {
	defer close(p.done)
	batch := make([]pendingEvent, 0, publishBatch)
	for {
		select {
		case e, ok := <-p.queue:
			if !ok {
				return
			}
			batch = p.fill(append(batch[:0], e))
			p.send(ctx, batch)
		case <-ctx.Done():
			return
		}
	}
}

// fill adds queued events up to publishBatch.
func (p *publisher) fill(batch []pendingEvent) []pendingEvent {
	for len(batch) < publishBatch {
		select {
		case e, ok := <-p.queue:
			if !ok {
				return batch
			}
			batch = append(batch, e)
		default:
			return batch
		}
	}
	return batch
}

// send publishes a batch and waits for the acknowledgements.
func (p *publisher) send(ctx context.Context, batch []pendingEvent) {
	waiting := make([]*nats.Msg, 0, len(batch))
	for _, e := range batch {
		m, err := wire.EncodeEvent(e.subject, wire.Event{Name: e.name, ID: e.id, About: e.about, Time: e.at, Data: e.data})
		if err != nil {
			p.lose(1, err)
			continue
		}
		waiting = append(waiting, m)
	}
	var err error
	for try := 0; try < publishTries && len(waiting) > 0 && ctx.Err() == nil; try++ {
		waiting, err = p.sendOnce(ctx, waiting)
	}
	if len(waiting) > 0 {
		p.lose(len(waiting), err)
	}
}

// sendOnce sends messages and returns those that were not acknowledged.
func (p *publisher) sendOnce(ctx context.Context, messages []*nats.Msg) (failed []*nats.Msg, err error) {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	futures := make([]jetstream.PubAckFuture, len(messages))
	for i, m := range messages {
		if ctx.Err() != nil { // PublishMsgAsync blocks while too many are unacknowledged
			break
		}
		var e error
		if futures[i], e = p.js.PublishMsgAsync(m); e != nil {
			err = e
		}
	}
	for i, f := range futures {
		if f == nil {
			failed = append(failed, messages[i])
			continue
		}
		select {
		case <-f.Ok():
			continue
		case err = <-f.Err():
		case <-ctx.Done():
			err = ctx.Err()
		}
		failed = append(failed, messages[i])
	}
	return failed, err
}

// lose counts dropped events and logs them at most once every warnEvery.
func (p *publisher) lose(n int, err error) {
	lost := p.lost.Add(uint64(n))
	p.warn.Do(func() { p.log.Warn("events could not be published and are lost", "lost", lost, "error", err) })
}

// close publishes the queued events, until ctx ends. The caller then ends run.
func (p *publisher) close(ctx context.Context) error {
	p.mu.Lock()
	p.closed = true
	close(p.queue)
	p.mu.Unlock()
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
	}
	return fmt.Errorf("client: closing was cut off with %d events unpublished: %w", len(p.queue), ctx.Err())
}
