package handlers_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/micro"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/internal/testkit"
)

// attempts counts those that reach a target by what their payload begins with.
type attempts struct {
	mu sync.Mutex
	by map[string]int
}

func (a *attempts) add(payload string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	name, _, _ := strings.Cut(payload, " ")
	a.by[name]++
}

func (a *attempts) of(name string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.by[name]
}

// reserving starts instances whose keys have a budget of 20 a minute, and a target.
func reserving(t *testing.T, instances int) (*rig, *attempts) {
	t.Helper()
	r := newRig(t)
	var services []*handlers.Service
	for range instances {
		services = append(services, r.start(handlers.Config{
			Policies: policySet(t, "default: {maxAttempts: 3, baseDelay: 20ms, jitterType: none, retryBudgetPerMinute: 20}"),
		}))
	}
	r.agree(instances, services...)
	a := &attempts{by: make(map[string]int)}
	r.target("pay.charge", func(_ int, req micro.Request) (string, string, micro.Headers) {
		a.add(string(req.Data()))
		return "", "", nil
	})
	return r, a
}

// come submits operations of a priority.
func (r *rig) come(p events.Priority, n int) {
	r.t.Helper()
	for i := range n {
		id := fmt.Sprintf("%s %d", p, i)
		r.submit("retry.submit.pay.charge", event(strings.ReplaceAll(id, " ", "-"), p.String()), id)
	}
}

func TestReserve_CriticalOperationsThatComeAfterLowOnesFindTheirs(t *testing.T) {
	t.Parallel()
	for name, instances := range map[string]int{"one instance": 1, "two instances": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, a := reserving(t, instances)
			r.come(events.Critical, 1)
			r.awaitOutcomes(1, 30*time.Second)
			began := time.Now()
			r.come(events.Low, 20)
			testkit.Eventually(t, 30*time.Second, "the other low ones being held", func() bool {
				return a.of("low")+r.count("RETRY", "retry.held.low.>") == 20 && a.of("low") > 0
			})
			if n := a.of("low"); n > 10 {
				t.Errorf("%d low operations go, want 10 of 20 at most", n)
			}
			r.submitAll(10, func(i int) (string, map[string]string) {
				return "retry.submit.pay.charge", event(fmt.Sprint("late-", i), "critical")
			})
			late := func() int { return r.count("RETRY_OUTCOMES", "retry.outcome.retrySuccess.>") - 1 - a.of("low") }
			testkit.Eventually(t, 30*time.Second, "nine critical ones going", func() bool { return late() >= 9 })
			if took := time.Since(began); took > time.Minute {
				t.Fatalf("the critical ones go only after %v, want them within the minute", took)
			}
			r.awaitOutcomes(31, 3*time.Minute)
		})
	}
}

func TestReserve_LowOperationsAloneUseTheWholeBudget(t *testing.T) {
	t.Parallel()
	r, a := reserving(t, 2)
	began := time.Now()
	r.come(events.Low, 25)
	testkit.Eventually(t, 30*time.Second, "the whole budget being used", func() bool { return a.of("low") == 20 })
	if took := time.Since(began); took > time.Minute {
		t.Fatalf("it takes %v, want less than the minute", took)
	}
	testkit.Eventually(t, 10*time.Second, "the rest being held", func() bool { return r.count("RETRY", "retry.held.low.>") == 5 })
}
