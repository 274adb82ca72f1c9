package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

const immediate = `
default: {maxAttempts: 5, baseDelay: 1ms, maxDelay: 10s, backoffStrategy: fixed, jitterType: none, attemptTimeout: 10s}
`

// lateness submits operations with delays spread evenly over 10 ms to 5 s and compares when each
// came back with when it was due.
func lateness(ctx context.Context, r *rig, n int) error {
	if err := r.start(ctx, immediate); err != nil {
		return err
	}
	var mu sync.Mutex
	due := make(map[string]time.Time, n)
	came := make(map[string]time.Time, n)
	if _, err := r.nc.Subscribe("retry.event.retryScheduled.>", func(m *nats.Msg) {
		var event struct {
			ID  string    `json:"id"`
			Due time.Time `json:"due"`
		}
		if json.Unmarshal(m.Data, &event) == nil {
			mu.Lock()
			due[event.ID] = event.Due
			mu.Unlock()
		}
	}); err != nil {
		return err
	}
	var arrived atomic.Int64
	if _, err := r.nc.Subscribe("bench.op", func(m *nats.Msg) {
		now := time.Now()
		mu.Lock()
		came[m.Header.Get("Retry-Id")] = now
		mu.Unlock()
		_ = m.Respond(nil)
		arrived.Add(1)
	}); err != nil {
		return err
	}

	random := rand.New(rand.NewPCG(1, 2))
	pace := time.NewTicker(10 * time.Millisecond)
	defer pace.Stop()
	for i := range n {
		if i%20 == 0 {
			<-pace.C
		}
		delay := 10*time.Millisecond + time.Duration(random.Int64N(int64(4990*time.Millisecond)))
		m := nats.NewMsg("retry.submit.bench.op")
		m.Header.Set("ce-retryafter", strconv.FormatFloat(delay.Seconds(), 'f', 6, 64))
		m.Data = make([]byte, 512)
		if _, err := r.js.PublishMsgAsync(m); err != nil {
			return err
		}
	}
	if err := await(ctx, time.Minute, func() bool { return arrived.Load() >= int64(n) }); err != nil {
		return fmt.Errorf("%d of %d came back: %w", arrived.Load(), n, err)
	}
	if err := await(ctx, 10*time.Second, func() bool { mu.Lock(); defer mu.Unlock(); return len(due) >= n }); err != nil {
		return err
	}

	mu.Lock()
	defer mu.Unlock()
	late := make([]time.Duration, 0, n)
	early := 0
	for id, at := range came {
		d := at.Sub(due[id])
		if d < 0 {
			early++
		}
		late = append(late, d)
	}
	slices.Sort(late)
	fmt.Printf("  %d operations, %d early\n  late: %s\n", n, early, percentiles(late))
	return nil
}

func percentiles(sorted []time.Duration) string {
	at := func(p float64) time.Duration {
		return sorted[int(p*float64(len(sorted)-1))].Round(10 * time.Microsecond)
	}
	return fmt.Sprintf("min %s, p50 %s, p90 %s, p99 %s, p99.9 %s, max %s", at(0), at(.5), at(.9), at(.99), at(.999), at(1))
}
