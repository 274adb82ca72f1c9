package adoption

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
	"github.com/rebound-mq/rebound/internal/streams"
)

const (
	// relayAfter is how long the relay waits for the stream of advisories to deliver what
	// the relay heard, and relayEvery how often it checks.
	relayAfter = 10 * time.Second
	relayEvery = 2 * time.Second
	// maxHeard bounds the advisories that the relay keeps.
	maxHeard = 1 << 16
	// relayFlush is how long the relay of a stopping instance may take to hand on the rest.
	relayFlush = 3 * time.Second
	// warnEvery is how often the log repeats a warning.
	warnEvery = time.Minute
)

// Relay receives advisories beside the stream that stores them. The server sends an advisory
// only once, so the stream misses those that are sent while it has no leader or is being
// stopped. The relay stores in the stream the advisories that nobody has claimed for a while.
// All instances hear every advisory: the one that a queue group picks may be losing its
// connection to the very server that led the stream.
type Relay struct {
	config RelayConfig
	warn   rate.Sometimes

	mu    sync.Mutex                    // guards the fields below
	heard []missedAdvisory              // oldest first
	subs  map[string]*nats.Subscription // by subject; nil once stopped
}

// RelayConfig configures a [Relay].
type RelayConfig struct {
	Conn      *nats.Conn
	JetStream jetstream.JetStream
	Subjects  events.Subjects
	// Stream is the stream of the advisories.
	Stream string
	// Claimed reports whether an advisory needs no handling any more.
	Claimed func(ctx context.Context, given Advisory) (bool, error)
	// Draining is closed when the instance is about to stop.
	Draining <-chan struct{}
	Log      *slog.Logger
}

// missedAdvisory is an advisory that was heard and that the stream may have missed.
type missedAdvisory struct {
	at   time.Time
	data []byte
}

// NewRelay returns a relay. It receives nothing before [Relay.Listen].
func NewRelay(config RelayConfig) *Relay {
	return &Relay{config: config, warn: rate.Sometimes{First: 1, Interval: warnEvery}, subs: make(map[string]*nats.Subscription)}
}

// Listen listens on the advisories of exactly these consumers.
func (r *Relay) Listen(_ context.Context, adopted []Adoption) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.subs == nil {
		return nil
	}
	wanted := Advisories(adopted)
	for subject, sub := range r.subs {
		if !slices.Contains(wanted, subject) {
			if err := sub.Unsubscribe(); err != nil {
				return err
			}
			delete(r.subs, subject)
		}
	}
	for _, subject := range wanted {
		if r.subs[subject] == nil {
			sub, err := r.config.Conn.Subscribe(subject, r.hear)
			if err != nil {
				return err
			}
			r.subs[subject] = sub
		}
	}
	return nil
}

func (r *Relay) hear(m *nats.Msg) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.heard) >= maxHeard {
		r.warn.Do(func() {
			r.config.Log.Warn("too many messages are given up at once for an instance to keep them all; the stream of advisories stores them all the same", "stream", r.config.Stream)
		})
		return
	}
	r.heard = append(r.heard, missedAdvisory{time.Now(), m.Data})
}

// Run stores what the stream missed until the instance drains. Then it stops listening and
// hands on everything that nobody has claimed.
func (r *Relay) Run(ctx context.Context) {
	ticker := time.NewTicker(relayEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			r.review(ctx, time.Now().Add(-relayAfter))
			continue
		case <-r.config.Draining:
		case <-ctx.Done():
		}
		r.flush(ctx)
		return
	}
}

// flush stops listening and hands on the rest.
func (r *Relay) flush(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, relayFlush)
	defer cancel()
	r.stop(ctx)
	r.handOn(ctx, time.Now())
	if n := r.unsure(); n > 0 {
		r.config.Log.Warn("an instance ends before it could make sure that the stream of advisories has everything", "unsure", n)
	}
}

// stop stops listening once it has processed what the client has received.
func (r *Relay) stop(ctx context.Context) {
	r.mu.Lock()
	subs := r.subs
	r.subs = nil
	r.mu.Unlock()
	var ended []<-chan nats.SubStatus
	for subject, sub := range subs {
		closed := sub.StatusChanged(nats.SubscriptionClosed)
		end := sub.Drain
		if !r.config.Conn.IsConnected() {
			end = sub.Unsubscribe
		}
		if err := end(); err != nil {
			r.config.Log.Debug("listening on advisories could not be stopped", "subject", subject, "error", err)
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

// unsure returns how many advisories the stream may still miss.
func (r *Relay) unsure() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.heard)
}

// review hands on what was heard until then, except advisories younger than the oldest one
// that the stream has yet to deliver.
func (r *Relay) review(ctx context.Context, until time.Time) {
	if r.oldest().IsZero() || r.oldest().After(until) || !r.config.Conn.IsConnected() {
		return
	}
	stream, err := r.config.JetStream.Stream(ctx, r.config.Stream)
	if err != nil {
		r.warn.Do(func() {
			r.config.Log.Warn("reading the stream of advisories failed and will be retried", "stream", r.config.Stream, "error", err)
		})
		return
	}
	if state := stream.CachedInfo().State; state.Msgs > 0 {
		if behind := state.FirstTime.Add(-streams.ClockSlack); behind.Before(until) {
			until = behind
		}
	}
	r.handOn(ctx, until)
}

func (r *Relay) oldest() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.heard) == 0 {
		return time.Time{}
	}
	return r.heard[0].at
}

// handOn stores the advisories that were heard until then and that nobody has claimed. It
// ends at the first failure, which is retried later.
func (r *Relay) handOn(ctx context.Context, until time.Time) {
	for {
		r.mu.Lock()
		if len(r.heard) == 0 || r.heard[0].at.After(until) {
			r.mu.Unlock()
			return
		}
		first := r.heard[0]
		r.mu.Unlock()
		// Only this goroutine takes from the front.
		if err := r.store(ctx, first); err != nil {
			r.warn.Do(func() {
				r.config.Log.Warn("storing an advisory that the stream missed failed and will be retried", "stream", r.config.Stream, "error", err)
			})
			return
		}
		r.mu.Lock()
		r.heard = r.heard[1:]
		if len(r.heard) == 0 {
			r.heard = nil
		}
		r.mu.Unlock()
	}
}

// store stores an advisory in the stream unless its message is claimed.
func (r *Relay) store(ctx context.Context, missed missedAdvisory) error {
	given, err := ParseAdvisory(missed.data)
	if err != nil {
		r.config.Log.Warn("an advisory cannot be read", "error", err)
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, streams.CallTimeout)
	defer cancel()
	claimed, err := r.config.Claimed(ctx, given)
	if err != nil || claimed {
		return err
	}
	m := &nats.Msg{Subject: r.config.Subjects.Advisory(given.Stream, given.Consumer), Data: missed.data}
	ack, err := r.config.JetStream.PublishMsg(ctx, m, jetstream.WithMsgID(given.ID))
	if err == nil && !ack.Duplicate {
		r.config.Log.Info("the stream of advisories missed a message that was given up; it has it now",
			"stream", given.Stream, "consumer", given.Consumer, "sequence", given.Sequence)
	}
	return err
}
