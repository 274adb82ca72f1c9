package opstore

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/scheduler"
)

// deaf is a JetStream whose publishes fail with an error until a time, as those to a stream
// that is missing or full. Until then the stream cannot be found if missing is true.
type deaf struct {
	jetstream.JetStream
	err     error
	missing bool
	until   time.Time
	told    atomic.Int64
	// probes counts what was stored or refused that nobody hears, left what of it is still there.
	probes, left atomic.Int64
}

func (d *deaf) PublishMsg(_ context.Context, m *nats.Msg, _ ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	if m.Subject == (events.Subjects{}).Probe() {
		d.probes.Add(1)
		if time.Now().Before(d.until) {
			return nil, d.err
		}
		return &jetstream.PubAck{Sequence: uint64(d.left.Add(1))}, nil
	}
	d.told.Add(1)
	if time.Now().Before(d.until) {
		return nil, d.err
	}
	return &jetstream.PubAck{Sequence: 1}, nil
}

func (d *deaf) Stream(context.Context, string) (jetstream.Stream, error) {
	if d.missing && time.Now().Before(d.until) {
		return nil, jetstream.ErrStreamNotFound
	}
	return deafStream{deaf: d}, nil
}

type deafStream struct {
	jetstream.Stream
	deaf *deaf
}

func (s deafStream) DeleteMsg(context.Context, uint64) error {
	s.deaf.left.Add(-1)
	return nil
}

// TestTeller_OutcomeIsNotToldAgainAndAgain ends an operation while the stream of outcomes cannot
// store for a while. Subscribers hear each publish.
func TestTeller_OutcomeIsNotToldAgainAndAgain(t *testing.T) {
	for name, tc := range map[string]struct {
		err     error
		missing bool
		known   bool // whether it is known before
		lasts   time.Duration
		told    int64
		late    time.Duration
	}{
		"a missing stream that nobody answers for": {context.DeadlineExceeded, true, false, 30 * time.Second, 2, longestPause * 2},
		"a missing stream without subscribers":     {jetstream.ErrNoStreamResponse, true, false, 30 * time.Second, 2, longestPause * 2},
		"a full store":                             {apiError(10047), false, false, 50 * time.Second, 2, probeEvery + longestPause*2},
		"a store that is known to be full":         {apiError(10047), false, true, 50 * time.Second, 1, probeEvery + longestPause*2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				js := &deaf{err: tc.err, missing: tc.missing, until: time.Now().Add(tc.lasts)}
				store := newStore(js)
				if tc.known {
					store.storage.seen(tc.err)
				}
				op := &events.Operation{ID: "0123456789abcdef0123456789abcdef", Service: "s", Operation: "o", Attempt: 1}
				err := store.Ended(t.Context(), op, scheduler.Message{}, op.Ended(events.RetrySuccess, time.Now()))
				if told := js.told.Load(); err != nil || told != tc.told || js.left.Load() != 0 {
					t.Errorf("it was told %d times, %v, and %d probes are left, want %d times and none", told, err, js.left.Load(), tc.told)
				}
				if late := time.Since(js.until); late > tc.late {
					t.Errorf("it was stored %s after the stream could, want at most %s", late, tc.late)
				}
			})
		})
	}
}

func TestTeller_FullStoreIsTriedByOneAtATimeAndBySeveralOnceItStores(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		js := &deaf{err: apiError(10047), until: time.Now().Add(time.Minute)}
		s := newStore(js)
		done := make(chan error)
		const n = 100
		for range n {
			go func() { done <- s.Publish(t.Context(), "telling", nats.NewMsg("x")) }()
		}
		for range n {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		// What began before the first answer is told in vain, and nothing after it.
		if others, probes := js.told.Load()-n, js.probes.Load(); others < 1 || others > n || probes > 25 {
			t.Errorf("%d publishes of %d and %d probes were made in vain, want one each at most and about a probe each 3 s", others, n, probes)
		}
	})
}

func TestTeller_AccountThatIsFreedIsTriedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		js := &deaf{err: apiError(10002), until: time.Now().Add(30 * time.Second)}
		s := newStore(js)
		time.AfterFunc(30*time.Second, func() {
			s.storage.mu.Lock()
			defer s.storage.mu.Unlock()
			s.storage.freed++
		})
		if err := s.Publish(t.Context(), "telling", nats.NewMsg("x")); err != nil {
			t.Fatal(err)
		}
		if late := time.Since(js.until); late > longestPause*2 {
			t.Errorf("it was stored %s after the account was freed, want at most %s", late, 2*longestPause)
		}
	})
}
