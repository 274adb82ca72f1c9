package breaker_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/rebound-mq/rebound/breaker"
)

func TestTicket_ConcludesWhatItsPermitBegan(t *testing.T) {
	g := breaker.NewGroup(breaker.Config{})
	b := g.Breaker("billing:charge", breaker.Settings{Threshold: 2, Timeout: time.Second, HalfOpenMaxRequests: 1, HalfOpenSuccesses: 1})
	now := time.Now()
	ticket := func() breaker.Ticket {
		t.Helper()
		p, err := b.Allow(context.Background(), now)
		if err != nil {
			t.Fatalf("the breaker refuses an attempt: %v", err)
		}
		return p.Ticket()
	}
	first, second, late := ticket(), ticket(), ticket()
	b.Conclude(first, breaker.Attempt{Result: breaker.Failure, Took: time.Millisecond}, now)
	b.Conclude(second, breaker.Attempt{Result: breaker.Failure, Took: time.Millisecond}, now)
	if b.State() != breaker.Open {
		t.Fatalf("after 2 failures the breaker is %s, want OPEN", b.State())
	}
	now = now.Add(2 * time.Second)
	probe := ticket()
	if probe.Probe == "" {
		t.Fatal("the ticket of a probe does not name it")
	}
	if _, err := b.Allow(context.Background(), now); !errors.Is(err, breaker.ErrProbing) {
		t.Errorf("a second probe is answered with %v while the first has not been concluded, want ErrProbing", err)
	}
	b.Conclude(late, breaker.Attempt{Result: breaker.Success, Took: time.Millisecond}, now)
	if b.State() != breaker.HalfOpen {
		t.Errorf("a success from before the breaker opened makes it %s, want HALF_OPEN", b.State())
	}
	b.Conclude(probe, breaker.Attempt{Result: breaker.Success, Took: time.Millisecond}, now)
	if b.State() != breaker.Closed {
		t.Errorf("after the probe succeeded the breaker is %s, want CLOSED", b.State())
	}
	b.Conclude(breaker.Ticket{}, breaker.Attempt{Result: breaker.Failure, Took: time.Millisecond}, now)
	if got := b.Circuit().TotalRequests; got != 4 {
		t.Errorf("the breaker counts %d results, want the 4 of its permits", got)
	}
}
