package pull

import (
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/rebound-mq/rebound/internal/notify"
)

const (
	// withholdAtOnce is how many permits are withheld in one go, and withholdWait how long
	// to wait for them before the limit is checked again.
	withholdAtOnce = 64
	withholdWait   = time.Second
)

// Limit is the in-flight limit: how many messages this instance may have in flight, of
// all pullers that share it. It can be lowered below what it is made for, and raised
// again. It is safe for concurrent use.
type Limit struct {
	most     int
	minPulls int
	permits  *semaphore.Weighted
	limit    atomic.Int64
	shared   atomic.Int64
	changed  notify.Signal // set when limit may have changed
}

// NewLimit returns a limit of that many messages. It is split over at least minPulls pulls,
// so that one that waits for messages leaves some to the others.
func NewLimit(most, minPulls int) *Limit {
	l := &Limit{most: most, minPulls: minPulls, permits: semaphore.NewWeighted(int64(most)), changed: notify.NewSignal()}
	l.limit.Store(int64(most))
	l.shared.Store(int64(most))
	return l
}

// Most returns the highest value of the limit.
func (l *Limit) Most() int { return l.most }

// Shared returns how many messages in flight the keys share.
func (l *Limit) Shared() int { return int(l.shared.Load()) }

// Set limits the messages in flight to n, from 1 to [Limit.Most], of which the keys share as
// if they were shared, at least n. Messages in flight beyond it are still handled. It takes
// effect while [Limit.Run] runs.
func (l *Limit) Set(n, shared int) {
	n = min(max(n, 1), l.most)
	l.shared.Store(int64(min(max(shared, n), l.most)))
	if l.limit.Swap(int64(n)) != int64(n) {
		l.changed.Set()
	}
}

// Run withholds the permits beyond the limit, until ctx ends. A limit that is never set
// needs no Run.
func (l *Limit) Run(ctx context.Context) {
	withheld := 0
	defer func() { l.release(withheld) }()
	for ctx.Err() == nil {
		switch more := l.most - int(l.limit.Load()) - withheld; {
		case more < 0:
			l.release(-more)
			withheld += more
		case more > 0:
			n := min(more, withholdAtOnce)
			waiting, cancel := context.WithTimeout(ctx, withholdWait)
			if l.permits.Acquire(waiting, int64(n)) == nil {
				withheld += n
			}
			cancel()
		default:
			select {
			case <-ctx.Done():
			case <-l.changed:
			}
		}
	}
}

// batch returns how many messages one pull may ask for.
func (l *Limit) batch() int {
	return min(max(int(l.limit.Load())/l.minPulls, 1), MaxBatch)
}

// acquire waits for a permit and takes all that are free, up to n and what one pull may ask
// for. It returns how many it took, 0 if ctx ended first.
func (l *Limit) acquire(ctx context.Context, n int) int {
	if l.permits.Acquire(ctx, 1) != nil {
		return 0
	}
	n = min(n, l.batch())
	taken := 1
	for taken < n && l.permits.TryAcquire(1) {
		taken++
	}
	return taken
}

func (l *Limit) release(n int) { l.permits.Release(int64(n)) }

// messageOverhead is roughly how many bytes a message takes besides its payload.
const messageOverhead = 1024

// Bytes bounds the size of the messages that are in flight. It is safe for concurrent
// use.
type Bytes struct {
	most    int64
	permits *semaphore.Weighted
}

// NewBytes returns a bound of that many bytes.
func NewBytes(most int64) *Bytes { return &Bytes{most: most, permits: semaphore.NewWeighted(most)} }

// of returns how many bytes a message counts as. One larger than the bound takes all of it.
func (b *Bytes) of(m *Message) int64 { return min(int64(len(m.Data()))+messageOverhead, b.most) }

func (b *Bytes) acquire(ctx context.Context, n int64) error { return b.permits.Acquire(ctx, n) }

func (b *Bytes) release(n int64) { b.permits.Release(n) }

// await waits until all messages that wait for bytes have them, or ctx ends.
func (b *Bytes) await(ctx context.Context) {
	if b.acquire(ctx, 1) == nil {
		b.release(1)
	}
}
