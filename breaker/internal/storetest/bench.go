package storetest

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/internal/backoff"
)

// BenchmarkChange measures how long a transition takes at the instance that makes it
// (transition), and how soon another instance refuses after the failure that opens a breaker
// (refusal).
func BenchmarkChange(b *testing.B, c Config) {
	all := Fleet(b, c.Open(b, 2), breaker.Settings{Threshold: 1, Timeout: time.Hour})
	here, there := all[0], all[1]
	var transitions, refusals []time.Duration
	b.ResetTimer()
	for range b.N {
		began := time.Now()
		here.Fail(b, 1)
		awaitState(there, breaker.Open)
		refusals = append(refusals, time.Since(began))
		awaitState(here, breaker.Open)

		began = time.Now()
		if _, err := there.Reset(b.Context(), Key, breaker.Operator{}); err != nil {
			b.Fatal(err)
		}
		transitions = append(transitions, time.Since(began))
		awaitState(here, breaker.Closed)
	}
	report(b, "transition", transitions)
	report(b, "refusal", refusals)
}

func awaitState(i *Instance, s breaker.State) {
	for i.State() != s {
		backoff.Sleep(context.Background(), 10*time.Microsecond)
	}
}

func report(b *testing.B, what string, d []time.Duration) {
	b.Helper()
	slices.Sort(d)
	b.ReportMetric(d[len(d)/2].Seconds()*1000, what+"-p50-ms")
	b.ReportMetric(d[len(d)*99/100].Seconds()*1000, what+"-p99-ms")
}
