package handlers

import (
	"context"
	"testing"
	"time"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/scheduler"
)

func BenchmarkMetricsOfAnAttemptAndItsOutcome(b *testing.B) {
	m, err := newMetrics("instance", "1.0.0")
	if err != nil {
		b.Fatal(err)
	}
	ctx := context.Background()
	op := &events.Operation{Service: "billing", Operation: "charge"}
	reply, outcome := scheduler.Reply{Duration: 3 * time.Millisecond}, events.Outcome{Outcome: events.RetrySuccess}
	b.ReportAllocs()
	for b.Loop() {
		m.began(ctx, op, time.Millisecond)
		m.attempted(ctx, op, reply)
		m.Ended(ctx, op, outcome)
	}
}
