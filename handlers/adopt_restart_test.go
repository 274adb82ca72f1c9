package handlers_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
	"golang.org/x/time/rate"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/internal/adoption"
	"github.com/rebound-mq/rebound/internal/embedded"
	"github.com/rebound-mq/rebound/internal/testkit"
	"github.com/rebound-mq/rebound/schemas"
)

// fails reports whether the worker fails a message, which it does for a third.
func fails(sequence uint64) bool { return sequence%3 == 0 }

// failing is a worker that fails a third of its messages. It counts how often the target
// saw each failed one.
type failing struct {
	t    *testing.T
	pace *rate.Limiter

	mu      sync.Mutex
	seen    map[uint64]int // by sequence; guarded by mu
	advised map[uint64]int // how often the server gave each up, as far as was heard; guarded by mu
}

// newFailing returns a worker. When the test has failed it logs which of n messages did not
// arrive, and whether the server gave them up.
func newFailing(r *rig, n uint64) *failing {
	r.t.Helper()
	f := &failing{t: r.t, pace: rate.NewLimiter(0, 1), seen: map[uint64]int{}, advised: map[uint64]int{}}
	_, err := r.nc.Subscribe("$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.ORDERS.worker", func(m *nats.Msg) {
		given, err := adoption.ParseAdvisory(m.Data)
		if err != nil {
			r.t.Error(err)
		}
		f.mu.Lock()
		f.advised[given.Sequence]++
		f.mu.Unlock()
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		if r.t.Failed() {
			f.explain(r, n)
		}
	})
	return f
}

// explain logs which of the first n messages failed and did not arrive.
func (f *failing) explain(r *rig, n uint64) {
	r.t.Helper()
	r.t.Logf("%d advisories and %d operations are left", r.count("RETRY_ADVISORIES", ">"), r.count("RETRY", ">"))
	f.mu.Lock()
	defer f.mu.Unlock()
	for sequence := uint64(1); sequence <= n; sequence++ {
		if fails(sequence) && f.seen[sequence] == 0 {
			r.t.Logf("message %d did not arrive; the test heard %d times that the server gave it up", sequence, f.advised[sequence])
		}
	}
}

// publish publishes the messages from first to last. From then on the worker handles so
// many a second.
func (f *failing) publish(r *rig, first, last int, perSecond rate.Limit) {
	r.t.Helper()
	f.pace.SetLimit(perSecond)
	for i := first; i <= last; i++ {
		if _, err := r.js.Publish(r.t.Context(), "orders.new", []byte(fmt.Sprint("order ", i))); err != nil {
			r.t.Fatal(err)
		}
	}
}

func (f *failing) handle(m jetstream.Msg) error {
	meta, err := m.Metadata()
	if err == nil {
		err = f.pace.Wait(f.t.Context())
	}
	if err != nil {
		return err
	}
	if fails(meta.Sequence.Stream) {
		return m.Nak()
	}
	return m.Ack()
}

func (f *failing) target(_ int, req micro.Request) (string, string, micro.Headers) {
	sequence, err := strconv.ParseUint(req.Headers().Get(events.HeaderOriginSequence), 10, 64)
	if err != nil || string(req.Data()) != fmt.Sprint("order ", sequence) {
		f.t.Errorf("the target received %q with the headers %v", req.Data(), req.Headers())
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen[sequence]++
	return "", "", nil
}

func (f *failing) targets() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.seen)
}

// check insists that exactly the failed ones of n messages have an outcome, once
// each.
func (f *failing) check(r *rig, n uint64) {
	r.t.Helper()
	outcomes := map[string]int{}
	for _, o := range r.outcomes() {
		outcomes[o.EventID[strings.LastIndex(o.EventID, "-")+1:]]++
		if o.Outcome != events.RetrySuccess {
			r.t.Errorf("an operation ended in %+v, want retrySuccess", o)
		}
	}
	want := 0
	for sequence := uint64(1); sequence <= n; sequence++ {
		got, expected := outcomes[fmt.Sprint(sequence)], 0
		if fails(sequence) {
			expected = 1
			want++
		}
		if got != expected {
			r.t.Errorf("message %d has %d outcomes, want %d", sequence, got, expected)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	doubled := 0
	for sequence, calls := range f.seen {
		if !fails(sequence) {
			r.t.Errorf("the target received message %d, which did not fail", sequence)
		}
		if calls > 1 {
			doubled++
		}
	}
	r.t.Logf("%d messages, %d failed, %d arrived, %d of them twice at the target", n, want, len(f.seen), doubled)
}

// port returns the port of a server's address.
func port(t *testing.T, address string) int {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestAdoption_ExactlyTheFailedMessagesArriveThroughRestarts(t *testing.T) {
	t.Parallel()
	const messages = 5000
	dir := t.TempDir()
	server := testkit.Server(t, func(o *embedded.Options) { o.StoreDir = dir })
	at := port(t, server.ClientURL())
	r := connect(t, server.ClientURL())
	config := handlers.Config{Policies: policySet(t, patient), Lease: 2 * time.Second}

	stop := begin(r, config)
	f := newFailing(r, messages)
	r.target("t.x", f.target)
	consumer := r.orders(func(_ *jetstream.StreamConfig, c *jetstream.ConsumerConfig) { c.AckWait = 5 * time.Second })
	r.adopt(schemas.AdoptAdd{Stream: "ORDERS", Consumer: "worker", Target: "t.x"})
	f.publish(r, 1, messages/3, 800)
	r.work(consumer, f.handle)

	// Rebound restarts while messages are given up; their advisories are stored
	// meanwhile. Before each restart more messages come than the worker can handle until
	// then.
	testkit.Eventually(t, time.Minute, "a part of the messages having arrived", func() bool { return f.targets() > 200 })
	f.publish(r, messages/3+1, 2*messages/3, 100)
	stop()
	f.pace.SetLimit(800)
	stop = begin(r, config)

	// So does the NATS server, on the same files.
	testkit.Eventually(t, time.Minute, "a further part of the messages having arrived", func() bool { return f.targets() > 700 })
	f.publish(r, 2*messages/3+1, messages, 100)
	server.Shutdown()
	testkit.Server(t, func(o *embedded.Options) { o.StoreDir, o.Port = dir, at })
	f.pace.SetLimit(800)

	want := 0
	for sequence := range uint64(messages) {
		if fails(sequence + 1) {
			want++
		}
	}
	testkit.Eventually(t, 90*time.Second, fmt.Sprintf("%d outcomes", want), func() bool { return r.count("RETRY_OUTCOMES", "retry.outcome.>") >= want })
	r.awaitTaken()
	f.check(r, messages)
	// The last server must stop before what was begun earlier.
	stop()
}

// begin starts an instance that the test stops itself.
func begin(r *rig, config handlers.Config) (stop func()) {
	r.t.Helper()
	config.Logger, config.Backpressure = slog.New(slog.NewTextHandler(io.Discard, nil)), unhindered
	s, err := handlers.Start(r.t.Context(), testkit.Connect(r.t, r.url), config)
	if err != nil {
		r.t.Fatal(err)
	}
	var once sync.Once
	stop = func() {
		once.Do(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			if err := s.Stop(ctx); err != nil {
				r.t.Errorf("stopping the service: %v", err)
			}
		})
	}
	r.t.Cleanup(stop)
	return stop
}
