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
}

func (d *deaf) PublishMsg(context.Context, *nats.Msg, ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
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
	return nil, nil
}

// TestTeller_OutcomeIsNotToldAgainAndAgain ends an operation while the stream of outcomes cannot
// store for 30 seconds. Subscribers hear each publish.
func TestTeller_OutcomeIsNotToldAgainAndAgain(t *testing.T) {
	for name, tc := range map[string]struct {
		err     error
		missing bool
		most    int64
		late    time.Duration
	}{
		"a missing stream that nobody answers for": {context.DeadlineExceeded, true, 2, longestPause * 2},
		"a missing stream without subscribers":     {jetstream.ErrNoStreamResponse, true, 2, longestPause * 2},
		"a full store":                             {apiError(10047), false, 5, longestFull + longestPause*2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				js := &deaf{err: tc.err, missing: tc.missing, until: time.Now().Add(30 * time.Second)}
				op := &events.Operation{ID: "0123456789abcdef0123456789abcdef", Service: "s", Operation: "o", Attempt: 1}
				err := newStore(js).Ended(t.Context(), op, scheduler.Message{}, op.Ended(events.RetrySuccess, time.Now()))
				if told := js.told.Load(); err != nil || told < 2 || told > tc.most {
					t.Errorf("it was told %d times, %v, want 2 to %d times", told, err, tc.most)
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
		if others := js.told.Load() - n; others < 1 || others > n+10 {
			t.Errorf("%d publishes of %d were refused, want about one each before the first answer and few after", others, n)
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
