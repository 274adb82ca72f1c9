package handlers_test

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/internal/testkit"
)

// settled is what a proxy sees of the messages that instances settle.
type settled struct {
	mu sync.Mutex // guards the fields below
	// acks is how many are acknowledged, and again how many of these were delivered before.
	acks, again int
	// returned is how many are given back.
	returned int
	changed  chan struct{} // closed when acks changes
}

func newSettled() *settled { return &settled{changed: make(chan struct{})} }

// see is the fate of what a client publishes: it passes.
func (s *settled) see(pub testkit.Publication) testkit.Fate {
	if !strings.HasPrefix(pub.Subject, "$JS.ACK.") {
		return testkit.Pass
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case strings.HasPrefix(string(pub.Data), "-NAK"):
		s.returned++
	case string(pub.Data) == "+ACK":
		s.acks++
		if n, ok := pub.Deliveries(); !ok || n != 1 {
			s.again++
		}
		close(s.changed)
		s.changed = make(chan struct{})
	}
	return testkit.Pass
}

func (s *settled) counts() (acks, again, returned int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.acks, s.again, s.returned
}

// await waits until so many are acknowledged.
func (s *settled) await(t *testing.T, acks int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		s.mu.Lock()
		got, changed := s.acks, s.changed
		s.mu.Unlock()
		if got >= acks {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("%d messages are acknowledged, want %d", got, acks)
		}
	}
}

// TestService_StopLeavesNothingToDeliverAgain stops an instance in the middle of its work. No
// lease ends during the test, so nothing waits for one either.
func TestService_StopLeavesNothingToDeliverAgain(t *testing.T) {
	t.Parallel()
	const n = 200
	for _, acks := range []int{1, 50, 150, 250, 350} { // of the 400 that submissions and attempts take
		t.Run(fmt.Sprint("after ", acks, " acknowledgements"), func(t *testing.T) {
			t.Parallel()
			server := testkit.Server(t)
			r := connect(t, server.ClientURL())
			s := newSettled()
			proxy := testkit.Lossy(t, server.Addr(), s.see)
			// What comes due in less than half a second waits in hand.
			var log lockedBuilder
			config := handlers.Config{Logger: slog.New(slog.NewTextHandler(&log, nil)), Lease: 10 * time.Minute, Policies: policySet(t, strings.Replace(everyWay, "baseDelay: 20ms", "baseDelay: 490ms", 1))}
			first, _ := r.startAt(proxy.URL(), config)
			w := newWitness()
			r.witness(w)
			var submitting sync.WaitGroup
			submitting.Go(func() {
				r.submitAll(n, func(i int) (string, map[string]string) {
					return "retry.submit.immediate.op", event(strconv.Itoa(i), "normal")
				})
			})
			s.await(t, acks)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if err := first.Stop(ctx); err != nil {
				t.Fatalf("stopping an instance: %v", err)
			}
			submitting.Wait()
			left := r.count("RETRY", ">") + r.count("RETRY_INTAKE", ">")
			r.startAt(proxy.URL(), config)
			for _, o := range r.awaitOutcomes(n, 30*time.Second) {
				if o.Outcome != events.RetrySuccess {
					t.Errorf("operation %s ended as %s, want a success", o.EventID, o.Outcome)
				}
			}
			r.awaitEmpty()
			acks, again, returned := s.counts()
			t.Logf("%d of %d operations were left to the next instance; %d acknowledgements", left, n, acks)
			// A pull that a busy machine does not answer in time is given up like one at a dead server.
			if calm := !strings.Contains(log.String(), "pulling messages failed"); calm && again > 0 || returned > 0 {
				t.Errorf("%d messages were delivered again, and %d given back, want none", again, returned)
			}
			if attempts, repeats, _ := w.counts(); attempts != n || repeats > 0 {
				t.Errorf("the target got %d attempts, %d of them again; want one of each of %d", attempts, repeats, n)
			}
		})
	}
}
