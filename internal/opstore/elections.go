package opstore

import (
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/semaphore"

	"github.com/rebound-mq/rebound/internal/backoff"
	"github.com/rebound-mq/rebound/internal/streams"
)

const (
	// lookSpacing is the least time between two requests for the current leader.
	lookSpacing = 20 * time.Millisecond
	// Youngest is the least age of a message that a server shows although it was removed:
	// the server must have come back and been elected since.
	Youngest = time.Second
)

// Elections knows since when the stream of waiting operations has its present leader.
//
// A server that fires or lets out an operation stores it as due and then removes what
// waited. A server killed between the two has both when it comes back. It does not catch
// up with the others, so once it leads, operations that ended long ago are fired or let
// out again. So an operation that has waited since before the election may have gone on. A
// server without a cluster is its own leader, and the connection breaks when it is killed.
type Elections struct {
	// ask returns the stream's information from its leader.
	ask func(ctx context.Context) (*jetstream.StreamInfo, error)
	// now is the server's time, reconnects counts how often the connection came back.
	now        func() time.Time
	reconnects func() uint64

	looking *semaphore.Weighted // one goroutine asks for all

	mu          sync.Mutex // guards the fields below
	asked       time.Time  // when the last answer was requested, by this host's clock
	elected     time.Time  // when the leader was elected; zero when that is not known
	alone       bool       // without a cluster there are no elections, so asking again is needless
	reconnected time.Time  // when the connection last came back
	counted     uint64     // how often it had come back by then
}

// NewElections returns elections that ask the leader of the stream by ask. now is the
// server's time, and reconnects returns how often the connection came back.
func NewElections(ask func(context.Context) (*jetstream.StreamInfo, error), now func() time.Time, reconnects func() uint64) *Elections {
	return &Elections{ask: ask, now: now, reconnects: reconnects, looking: semaphore.NewWeighted(1), counted: reconnects()}
}

// Doubts reports whether an operation that was stored at a time may have gone on, because
// that was before the election of the stream's leader. The leader must have been asked at
// moment, by this host's clock, or later; for a zero moment the last answer counts. A leader
// that cannot be asked is doubted.
func (e *Elections) Doubts(ctx context.Context, stored, moment time.Time) bool {
	if e == nil {
		return false
	}
	last, known := e.last(moment)
	if !known {
		var err error
		if last, err = e.look(ctx, moment); err != nil {
			return true
		}
	}
	return !last.IsZero() && stored.Before(last.Add(streams.ClockSlack))
}

// last returns the last election that is known; ok is whether the leader was asked at a
// moment or later.
func (e *Elections) last(moment time.Time) (at time.Time, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if n := e.reconnects(); n != e.counted {
		e.counted, e.reconnected, e.alone = n, e.now(), false
	}
	at = e.elected
	if e.reconnected.After(at) {
		at = e.reconnected
	}
	return at, moment.IsZero() || e.alone || e.asked.After(moment)
}

// look asks the leader, unless another goroutine has asked meanwhile.
func (e *Elections) look(ctx context.Context, moment time.Time) (time.Time, error) {
	if err := e.looking.Acquire(ctx, 1); err != nil {
		return time.Time{}, err
	}
	defer e.looking.Release(1)
	if at, ok := e.last(moment); ok {
		return at, nil
	}
	e.mu.Lock()
	rest := lookSpacing - time.Since(e.asked)
	e.mu.Unlock()
	backoff.Sleep(ctx, rest)
	asked := time.Now()
	info, err := e.ask(ctx)
	if err != nil {
		return time.Time{}, err
	}
	e.Heard(asked, info)
	at, _ := e.last(moment)
	return at, nil
}

// Heard records an answer of the leader. A server that was cut off may still consider
// itself the leader, so the latest election counts.
func (e *Elections) Heard(asked time.Time, info *jetstream.StreamInfo) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if asked.After(e.asked) {
		e.asked, e.alone = asked, info.Cluster == nil
	}
	if c := info.Cluster; c != nil && c.LeaderSince != nil && c.LeaderSince.After(e.elected) {
		e.elected = *c.LeaderSince
	}
}
