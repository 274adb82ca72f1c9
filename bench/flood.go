package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// trickleEvery is how often the service beside the flood submits.
const trickleEvery = 100 * time.Millisecond

// flood submits n operations of one service in a burst, beside another service that submits ten a
// second, and measures how long the latter's wait until they are taken in: from JetStream's
// acknowledgement to the event of the decision.
func flood(ctx context.Context, r *rig, n int) error {
	if err := r.start(ctx, immediate); err != nil {
		return err
	}
	if _, err := r.nc.QueueSubscribe("bench.op", "bench", func(m *nats.Msg) { _ = m.Respond(nil) }); err != nil {
		return err
	}
	other, err := newTrickle(ctx, r)
	if err != nil {
		return err
	}
	run, stop := context.WithCancel(ctx)
	defer stop()
	var owned sync.WaitGroup
	owned.Go(func() { other.run(run) })
	defer owned.Wait()
	defer stop()

	start := time.Now()
	if err := r.submit(ctx, n); err != nil {
		return err
	}
	submitted := time.Since(start)
	allTakenIn := func() bool {
		s, err := r.js.Stream(ctx, "RETRY_INTAKE")
		return err == nil && s.CachedInfo().State.Msgs < 100
	}
	if err := await(ctx, 10*time.Minute, allTakenIn); err != nil {
		return err
	}
	takenIn := time.Since(start)
	stop()
	owned.Wait()
	if err := await(ctx, 2*time.Minute, func() bool { return other.waiting() == 0 }); err != nil {
		return fmt.Errorf("%d of the other service were not taken in, %d submissions are stored: %w", other.waiting(), r.messages(ctx, "RETRY_INTAKE"), err)
	}
	fmt.Printf("  %d of one service: submitted in %.1f s, taken in at %.0f/s in %.1f s\n", n, submitted.Seconds(), float64(n)/takenIn.Seconds(), takenIn.Seconds())
	return other.print()
}

// trickle is a service that submits a little, with the times of its operations.
type trickle struct {
	js     jetstream.JetStream
	failed atomic.Int64

	mu    sync.Mutex // guards the fields below
	acked map[string]time.Time
	taken map[string]time.Time
}

// newTrickle subscribes to the decisions on the trickle's operations. It has its own connection,
// so that the flood's submissions do not delay it.
func newTrickle(ctx context.Context, r *rig) (*trickle, error) {
	nc, err := nats.Connect(r.url)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, nc.Close)
	t := &trickle{acked: make(map[string]time.Time), taken: make(map[string]time.Time)}
	if t.js, err = jetstream.New(nc); err != nil {
		return nil, err
	}
	_, err = nc.Subscribe("retry.event.retryScheduled.other.>", func(m *nats.Msg) {
		now := time.Now()
		var event struct {
			EventID string `json:"eventId"`
		}
		if json.Unmarshal(m.Data, &event) != nil {
			return
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		if _, known := t.taken[event.EventID]; !known {
			t.taken[event.EventID] = now
		}
	})
	return t, err
}

// run submits until ctx ends.
func (t *trickle) run(ctx context.Context) {
	ticker := time.NewTicker(trickleEvery)
	defer ticker.Stop()
	var owned sync.WaitGroup
	defer owned.Wait()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			owned.Go(func() { t.submit(strconv.Itoa(i)) })
		}
	}
}

func (t *trickle) submit(id string) {
	m := nats.NewMsg("retry.submit.other.op")
	for k, v := range map[string]string{"ce-specversion": "1.0", "ce-id": id, "ce-source": "/bench", "ce-type": "rebound.operation.failed.v1", "ce-target": "bench.op"} {
		m.Header[k] = []string{v}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := t.js.PublishMsg(ctx, m); err != nil {
		t.failed.Add(1)
		return
	}
	now := time.Now()
	t.mu.Lock()
	t.acked[id] = now
	t.mu.Unlock()
}

// waiting counts the operations not yet taken in.
func (t *trickle) waiting() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for id := range t.acked {
		if _, ok := t.taken[id]; !ok {
			n++
		}
	}
	return n
}

func (t *trickle) print() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failed.Load() > 0 || len(t.acked) == 0 {
		return fmt.Errorf("%d submissions of the other service failed, %d were acknowledged", t.failed.Load(), len(t.acked))
	}
	delays := make([]time.Duration, 0, len(t.acked))
	for id, acked := range t.acked {
		delays = append(delays, max(t.taken[id].Sub(acked), 0))
	}
	slices.Sort(delays)
	at := func(p int) time.Duration {
		return delays[min(len(delays)*p/100, len(delays)-1)].Round(time.Millisecond)
	}
	fmt.Printf("  %d of the other service, 10 a second, were taken in after: p50 %s, p95 %s, p99 %s, max %s\n", len(delays), at(50), at(95), at(99), at(100))
	return nil
}
