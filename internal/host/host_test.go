package host_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/rebound-mq/rebound/health"
	"github.com/rebound-mq/rebound/internal/host"
)

func TestSampler_MeasuresUntilItIsStopped(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	measured := make(chan health.Host)
	s := host.Sampler{
		Interval: 20 * time.Millisecond,
		Measured: func(h health.Host) {
			select {
			case measured <- h:
			case <-ctx.Done():
			}
		},
		Failed: func(err error) { t.Errorf("the host cannot be measured: %v", err) },
	}
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx) })
	// The host may be idle otherwise.
	running.Go(func() {
		for ctx.Err() == nil {
		}
	})
	busy := false
	for range 20 {
		select {
		case h := <-measured:
			if h.MemoryUtilization <= 0 || h.MemoryUtilization > 100 || h.CPUUtilization < 0 || h.CPUUtilization > 100 || h.SystemLoad < 0 {
				t.Fatalf("the host is measured as %+v", h)
			}
			busy = busy || h.CPUUtilization > 0
		case <-ctx.Done():
			t.Fatal("the sampler measured fewer than 20 times in 30 s")
		}
	}
	if !busy {
		t.Error("the CPU was never busy")
	}
	cancel()
	running.Wait()
}
