package handlers_test

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/internal/testkit"
	"github.com/rebound-mq/rebound/schemas"
)

// everyWay has a service for each way that an operation may take.
const everyWay = quick + `
parked: {baseDelay: 600ms, backoffStrategy: fixed}
fails: {maxAttempts: 6}
hopeless: {maxAttempts: 3}
`

// ways are the services of everyWay, and those without a policy of their own.
var ways = []string{"immediate", "parked", "fails", "hopeless", "held", "worked"}

// witness is a target that knows every attempt that it gets.
type witness struct {
	mu       sync.Mutex
	attempts map[string][]bool // whether each was marked as a repeat, by id and number of the attempt
	unmarked int               // attempts made again without the mark
	repeats  int
}

func newWitness() *witness { return &witness{attempts: make(map[string][]bool)} }

// attempt records one and returns the code of its failure, empty for a success.
func (w *witness) attempt(service string, h nats.Header) (code string) {
	number := h.Get(events.HeaderAttempt)
	name, repeated := h.Get("ce-id")+" "+number, h.Get(events.HeaderRepeated) != ""
	w.mu.Lock()
	defer w.mu.Unlock()
	if before := w.attempts[name]; len(before) > 0 {
		w.repeats++
		if !repeated {
			w.unmarked++
		}
	}
	w.attempts[name] = append(w.attempts[name], repeated)
	switch {
	case service == "hopeless", service == "fails" && number != "5":
		return "503"
	}
	return ""
}

func (w *witness) counts() (attempts, repeats, unmarked int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range w.attempts {
		attempts += len(a)
	}
	return attempts, w.repeats, w.unmarked
}

// witness makes w the target of every way by request.
func (r *rig) witness(w *witness) {
	r.t.Helper()
	for _, way := range ways {
		if way != "worked" {
			r.target(way+".op", func(_ int, req micro.Request) (string, string, micro.Headers) {
				return w.attempt(way, nats.Header(req.Headers())), "the target fails", nil
			})
		}
	}
}

// worksOn takes the operations of a stream of workers and reports on them.
func (r *rig) worksOn(stream string, w *witness) {
	r.t.Helper()
	var consumer jetstream.Consumer
	testkit.Eventually(r.t, 30*time.Second, "the stream "+stream, func() bool {
		var err error
		consumer, err = r.js.CreateOrUpdateConsumer(r.t.Context(), stream, jetstream.ConsumerConfig{Durable: "worker", AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Minute})
		return err == nil
	})
	working, err := consumer.Consume(func(m jetstream.Msg) {
		w.attempt("worked", m.Headers())
		if _, err := r.js.PublishMsg(r.t.Context(), reportOn(m, "success")); err != nil {
			r.t.Errorf("reporting: %v", err)
		}
		if err := m.Ack(); err != nil {
			r.t.Errorf("acknowledging work: %v", err)
		}
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		working.Stop()
		<-working.Closed()
	})
}

// goEveryWay submits n operations, each of which goes one way.
func (r *rig) goEveryWay(n int) {
	r.t.Helper()
	r.submitAll(n, func(i int) (string, map[string]string) {
		way := ways[i%len(ways)]
		h := event(fmt.Sprint(way, "-", i), events.Priorities[i%len(events.Priorities)].String())
		if way == "worked" {
			h["ce-delivery"] = string(events.Publish)
		}
		return "retry.submit." + way + ".op", h
	})
}

// endsEveryWay waits until n operations have ended, and checks how.
func (r *rig) endsEveryWay(n int, w *witness) {
	r.t.Helper()
	testkit.Eventually(r.t, 2*time.Minute, "all operations to end and nothing waiting", func() bool {
		return r.count("RETRY_OUTCOMES", "retry.outcome.>") >= n && r.count("RETRY_INTAKE", ">") == 0 && r.count("RETRY", ">") == 0 && r.count("RETRY_WORK", ">") == 0
	})
	told := make(map[string]int)
	for _, o := range r.outcomes() {
		told[o.EventID]++
		want := events.RetrySuccess
		if strings.HasPrefix(o.EventID, "hopeless") {
			want = events.RetryFailed
		}
		if o.Outcome != want {
			r.t.Errorf("operation %s ended as %s for %s, want %s", o.EventID, o.Outcome, o.Reason, want)
		}
	}
	for i := range n {
		if id := fmt.Sprint(ways[i%len(ways)], "-", i); told[id] != 1 {
			r.t.Errorf("of operation %s %d outcomes are told, want 1", id, told[id])
		}
	}
	if letters := r.count("RETRY_DEAD", ">"); letters != n/len(ways) {
		r.t.Errorf("there are %d dead letters, want %d", letters, n/len(ways))
	}
	attempts, repeats, unmarked := w.counts()
	r.t.Logf("%d operations, %d attempts, of them %d again", n, attempts, repeats)
	if unmarked > 0 {
		r.t.Errorf("%d attempts came again without a mark, want none", unmarked)
	}
}

// isAck reports whether a client publishes an acknowledgement, and of which consumer if that is
// not all the same.
func isAck(pub testkit.Publication, consumer string) bool {
	return strings.HasPrefix(pub.Subject, "$JS.ACK.") && string(pub.Data) == "+ACK" && (consumer == "" || strings.Contains(pub.Subject, "."+consumer))
}

// losing returns a function that reports whether the next is lost, of which so large a share is.
func losing(share float64, seed uint64) func() bool {
	var mu sync.Mutex
	random := rand.New(rand.NewPCG(seed, 1))
	return func() bool {
		mu.Lock()
		defer mu.Unlock()
		return random.Float64() < share
	}
}

// TestAcks_ThatAreLostLoseNothingAndTellNothingTwice lets operations go every way behind a proxy
// that drops acknowledgements.
func TestAcks_ThatAreLostLoseNothingAndTellNothingTwice(t *testing.T) {
	t.Parallel()
	const least = 20
	for _, c := range []struct {
		name     string
		n        int
		consumer string
		share    float64
		// whole is whether everything is lost until all have ended.
		whole bool
	}{
		{"one in three", 240, "", 1. / 3, false},
		{"all of the due consumers until all have ended", 120, "rebound-due", 1, true},
		{"all until all have ended", 120, "", 1, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n := c.n
			server := testkit.Server(t)
			r := connect(t, server.ClientURL())
			var mended atomic.Bool
			lost := losing(c.share, hashOf(c.name))
			proxy := testkit.Lossy(t, server.Addr(), func(pub testkit.Publication) testkit.Fate {
				if !mended.Load() && isAck(pub, c.consumer) && lost() {
					return testkit.Lose
				}
				return testkit.Pass
			})
			config := handlers.Config{Policies: policySet(t, everyWay), Lease: 2 * time.Second}
			a, _ := r.startAt(proxy.URL(), config)
			b, _ := r.startAt(proxy.URL(), config)
			r.agree(2, a, b)
			w := newWitness()
			r.witness(w)
			r.hold("held:op")
			r.goEveryWay(n)
			r.worksOn("RETRY_WORK", w)
			testkit.Eventually(t, time.Minute, "those of one service to be held, and the others to end", func() bool {
				return r.count("RETRY", "retry.held.*.held.>") == n/len(ways) && r.count("RETRY_OUTCOMES", "retry.outcome.>") >= n-n/len(ways)
			})
			r.act("reset", schemas.BreakerAct{Key: "held:op"})
			if c.whole {
				testkit.Eventually(t, 2*time.Minute, "all outcomes", func() bool { return r.count("RETRY_OUTCOMES", "retry.outcome.>") >= n })
				mended.Store(true)
			}
			r.endsEveryWay(n, w)
			t.Logf("%d acknowledgements were lost", proxy.Lost())
			if proxy.Lost() < least {
				t.Errorf("%d acknowledgements were lost, too few to test anything", proxy.Lost())
			}
		})
	}
}

func hashOf(s string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(s))
	return h.Sum64()
}
