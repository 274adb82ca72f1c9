package telemetry_test

import (
	"context"
	"testing"
	"time"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/telemetry"
	"github.com/rebound-mq/rebound/scheduler"
)

func BenchmarkMetrics_AttemptAndOutcome(b *testing.B) {
	m, err := telemetry.NewMetrics("instance", "1.0.0")
	if err != nil {
		b.Fatal(err)
	}
	ctx := context.Background()
	op := &events.Operation{Service: "billing", Operation: "charge"}
	reply, outcome := scheduler.Reply{Duration: 3 * time.Millisecond}, events.Outcome{Outcome: events.RetrySuccess}
	b.ReportAllocs()
	for b.Loop() {
		m.Began(ctx, op, time.Millisecond)
		m.Attempted(ctx, op, reply)
		m.Ended(ctx, op, outcome)
	}
}
