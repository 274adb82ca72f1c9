package intake

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/internal/streams"
)

const (
	// freshFor is how long a position of the consumer is used. The consumer must be
	// aheadTime and aheadMessages away from a submission to take it ahead; what is left of
	// that time is for storing the operation and removing its submission.
	freshFor      = 100 * time.Millisecond
	aheadTime     = 600 * time.Millisecond
	aheadMessages = 64
)

// position is the position of the intake's consumer.
type position struct {
	at        time.Time // when the consumer was asked
	delivered uint64    // the last sequence that was delivered
	pending   uint64
	created   time.Time // when the consumer was made
	perSecond float64   // how fast it advances
	paced     bool      // whether perSecond is known
}

// beyond returns the first sequence that the consumer is far from.
func (p position) beyond() uint64 {
	return p.delivered + uint64(p.perSecond*aheadTime.Seconds()) + aheadMessages + 1
}

// next returns the position that follows p at now.
func (p position) next(info *jetstream.ConsumerInfo, now time.Time) position {
	n := position{at: now, delivered: info.Delivered.Stream, pending: info.NumPending, created: info.Created}
	if now.Sub(p.at) > streams.CallTimeout || n.delivered < p.delivered {
		return n // p is old or of another consumer
	}
	n.paced = true
	// The pace rarely drops at once, so the earlier one counts too.
	n.perSecond = max(float64(n.delivered-p.delivered)/now.Sub(p.at).Seconds(), p.perSecond*0.9)
	return n
}

// tracker knows the position of the consumer. It is safe for concurrent use.
type tracker struct {
	js               jetstream.JetStream
	stream, consumer string

	mu   sync.Mutex
	last position // guarded by mu
}

// position returns the consumer's position. It asks the server if the last answer is not
// fresh.
func (t *tracker) position(ctx context.Context) (position, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if now.Sub(t.last.at) < freshFor {
		return t.last, nil
	}
	ctx, cancel := context.WithTimeout(ctx, streams.CallTimeout)
	defer cancel()
	c, err := t.js.Consumer(ctx, t.stream, t.consumer)
	if err != nil {
		return position{}, fmt.Errorf("reading consumer %s: %w", t.consumer, err)
	}
	t.last = t.last.next(c.CachedInfo(), now)
	return t.last, nil
}
