package handlers

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/time/rate"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/adoption"
	"github.com/rebound-mq/rebound/internal/streams"
)

const (
	// witnessAfter is how long the stream of advisories is given to bring what an
	// instance heard itself.
	witnessAfter = 10 * time.Second
	witnessEvery = 2 * time.Second
	// witnessMost bounds what an instance keeps of what it heard.
	witnessMost = 1 << 16
	// witnessFlush bounds how long an instance that stops hands on what it heard.
	witnessFlush = 3 * time.Second
)

// witness hears advisories beside the stream that stores them. The server sends an
// advisory once and waits for nobody, so the stream misses those that are sent while
// it has no leader or is being stopped. What the witness heard and nobody claimed
// after a while it stores in the stream itself. Each advisory is heard by one of the
// instances.
type witness struct {
	nc       *nats.Conn
	js       jetstream.JetStream
	subjects events.Subjects
	stream   string
	log      *slog.Logger
	// claimed reports whether somebody takes the message over.
	claimed func(ctx context.Context, given adoption.Advisory) (bool, error)
	warn    rate.Sometimes

	mu    sync.Mutex
	heard []testimony                   // oldest first; guarded by mu
	subs  map[string]*nats.Subscription // by subject; nil once stopped; guarded by mu
}

// testimony is an advisory that was heard.
type testimony struct {
	at   time.Time
	data []byte
}

// listen listens on the advisories of exactly these consumers.
func (w *witness) listen(adopted []adoption.Adoption) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.subs == nil {
		return nil
	}
	wanted := adoption.Advisories(adopted)
	for subject, sub := range w.subs {
		if !slices.Contains(wanted, subject) {
			if err := sub.Unsubscribe(); err != nil {
				return err
			}
			delete(w.subs, subject)
		}
	}
	for _, subject := range wanted {
		if w.subs[subject] == nil {
			sub, err := w.nc.QueueSubscribe(subject, ServiceName, w.hear)
			if err != nil {
				return err
			}
			w.subs[subject] = sub
		}
	}
	return nil
}

func (w *witness) hear(m *nats.Msg) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.heard) >= witnessMost {
		w.warn.Do(func() {
			w.log.Warn("too many messages are given up at once to be witnessed; the stream of advisories stores them all the same", "stream", w.stream)
		})
		return
	}
	w.heard = append(w.heard, testimony{time.Now(), m.Data})
}

// run stores what the stream missed, until draining is closed. Then it stops
// listening and hands on everything that nobody claimed.
func (w *witness) run(ctx context.Context, draining <-chan struct{}) {
	ticker := time.NewTicker(witnessEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			w.review(ctx, time.Now().Add(-witnessAfter))
			continue
		case <-draining:
		case <-ctx.Done():
		}
		ctx, cancel := context.WithTimeout(ctx, witnessFlush)
		defer cancel()
		w.stop(ctx)
		w.hand(ctx, time.Now())
		if n := w.left(); n > 0 {
			w.log.Warn("an instance ends before it could make sure that the stream of advisories has everything", "unsure", n)
		}
		return
	}
}

// stop listens no more, once what the client has received is heard.
func (w *witness) stop(ctx context.Context) {
	w.mu.Lock()
	subs := w.subs
	w.subs = nil
	w.mu.Unlock()
	var ended []<-chan nats.SubStatus
	for subject, sub := range subs {
		closed := sub.StatusChanged(nats.SubscriptionClosed)
		end := sub.Drain
		if !w.nc.IsConnected() {
			end = sub.Unsubscribe
		}
		if err := end(); err != nil {
			w.log.Debug("a witness could not stop listening", "subject", subject, "error", err)
			continue
		}
		ended = append(ended, closed)
	}
	for _, closed := range ended {
		select {
		case <-closed:
		case <-ctx.Done():
		}
	}
}

func (w *witness) left() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.heard)
}

// review hands on what was heard until then, unless the stream still has to bring
// what is as old.
func (w *witness) review(ctx context.Context, until time.Time) {
	if w.oldest().IsZero() || w.oldest().After(until) || !w.nc.IsConnected() {
		return
	}
	stream, err := w.js.Stream(ctx, w.stream)
	if err != nil {
		w.warn.Do(func() {
			w.log.Warn("the stream of advisories cannot be read; it is tried again", "stream", w.stream, "error", err)
		})
		return
	}
	if state := stream.CachedInfo().State; state.Msgs > 0 {
		if behind := state.FirstTime.Add(-streams.ClockSlack); behind.Before(until) {
			until = behind
		}
	}
	w.hand(ctx, until)
}

func (w *witness) oldest() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.heard) == 0 {
		return time.Time{}
	}
	return w.heard[0].at
}

// hand stores what was heard until then and nobody claimed. It ends at the first
// that fails, which is tried again.
func (w *witness) hand(ctx context.Context, until time.Time) {
	for {
		w.mu.Lock()
		if len(w.heard) == 0 || w.heard[0].at.After(until) {
			w.mu.Unlock()
			return
		}
		first := w.heard[0]
		w.mu.Unlock()
		// Only this goroutine takes from the front.
		if err := w.store(ctx, first); err != nil {
			w.warn.Do(func() {
				w.log.Warn("what the stream of advisories missed cannot be stored; it is tried again", "stream", w.stream, "error", err)
			})
			return
		}
		w.mu.Lock()
		w.heard = w.heard[1:]
		if len(w.heard) == 0 {
			w.heard = nil
		}
		w.mu.Unlock()
	}
}

func (w *witness) store(ctx context.Context, t testimony) error {
	given, err := adoption.ParseAdvisory(t.data)
	if err != nil {
		w.log.Warn("what was heard is no advisory that can be read", "error", err)
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, streams.CallTimeout)
	defer cancel()
	claimed, err := w.claimed(ctx, given)
	if err != nil || claimed {
		return err
	}
	m := &nats.Msg{Subject: w.subjects.Advisory(given.Stream, given.Consumer), Data: t.data}
	ack, err := w.js.PublishMsg(ctx, m, jetstream.WithMsgID(given.ID))
	if err == nil && !ack.Duplicate {
		w.log.Info("the stream of advisories missed a message that was given up; it has it now",
			"stream", given.Stream, "consumer", given.Consumer, "sequence", given.Sequence)
	}
	return err
}
