package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// throughput submits operations as fast as the server accepts them, with a target that succeeds
// at once, and waits for every outcome.
func throughput(ctx context.Context, r *rig, n int) error {
	if err := r.start(ctx, immediate); err != nil {
		return err
	}
	ended, err := r.countOutcomes("retrySuccess")
	if err != nil {
		return err
	}
	if _, err := r.nc.QueueSubscribe("bench.op", "bench", func(m *nats.Msg) { _ = m.Respond(nil) }); err != nil {
		return err
	}
	cpu, err := r.cpuTime()
	if err != nil {
		return err
	}
	start := time.Now()
	if err := r.submit(ctx, n); err != nil {
		return err
	}
	submitted := time.Since(start)
	if err := await(ctx, 5*time.Minute, func() bool { return ended.Load() >= int64(n) }); err != nil {
		return fmt.Errorf("%d of %d ended: %w", ended.Load(), n, err)
	}
	all := time.Since(start)
	used, err := r.cpuTime()
	if err != nil {
		return err
	}
	// An operation that is due at once is written there once, and twice more each time it is held.
	written := float64(r.lastSequence(ctx)) / float64(n)
	fmt.Printf("  %.0f µs of the service's CPU and %.2f writes to RETRY an operation\n", float64((used-cpu).Microseconds())/float64(n), written)
	fmt.Printf("  %d operations of 512 bytes: submitted at %.0f/s, ended at %.0f/s\n", n, float64(n)/submitted.Seconds(), float64(n)/all.Seconds())
	return nil
}

// replay turns operations into dead letters and replays all of them, despite an interruption.
func replay(ctx context.Context, r *rig, n int) error {
	if err := r.start(ctx, immediate); err != nil {
		return err
	}
	var healthy atomic.Bool
	if _, err := r.nc.QueueSubscribe("bench.op", "bench", func(m *nats.Msg) {
		answer := nats.NewMsg(m.Reply)
		if !healthy.Load() {
			answer.Header.Set("Nats-Service-Error-Code", "404")
			answer.Header.Set("Nats-Service-Error", "gone")
		}
		_ = m.RespondMsg(answer)
	}); err != nil {
		return err
	}
	failed, err := r.countOutcomes("retryFailed")
	if err != nil {
		return err
	}
	succeeded, err := r.countOutcomes("retrySuccess")
	if err != nil {
		return err
	}
	if err := r.submit(ctx, n); err != nil {
		return err
	}
	if err := await(ctx, 5*time.Minute, func() bool { return failed.Load() >= int64(n) }); err != nil {
		return err
	}
	healthy.Store(true)

	// Half way, the command is interrupted and the service killed.
	start := time.Now()
	first, err := r.command(ctx, "dead", "replay", "--service", "bench")
	if err != nil {
		return err
	}
	if err := await(ctx, 5*time.Minute, func() bool { return succeeded.Load() >= int64(n/10) }); err != nil {
		return err
	}
	if err := r.kill(); err != nil {
		return err
	}
	if err := first.Process.Signal(os.Interrupt); err != nil {
		return err
	}
	interrupted := first.Wait()
	fmt.Printf("  after %d of %d: service killed, command interrupted (%v)\n", succeeded.Load(), n, interrupted)
	if err := r.start(ctx, immediate); err != nil {
		return err
	}
	second, err := r.command(ctx, "dead", "replay", "--service", "bench")
	if err != nil {
		return err
	}
	if err := second.Wait(); err != nil {
		return fmt.Errorf("resuming the replay: %w", err)
	}
	asked := time.Since(start)
	settled := func() bool {
		return r.messages(ctx, "RETRY_DEAD") == 0 && r.messages(ctx, "RETRY_INTAKE") == 0 && r.messages(ctx, "RETRY") == 0
	}
	if err := await(ctx, 5*time.Minute, settled); err != nil {
		return fmt.Errorf("%d of %d ended: %w", succeeded.Load(), n, err)
	}
	all := time.Since(start)
	// After a crash the same event may be published again: JetStream stores it once, a plain
	// subscription receives it twice.
	stored, err := r.stored(ctx, "RETRY_OUTCOMES", "retry.outcome.retrySuccess.bench.op")
	if err != nil {
		return err
	}
	fmt.Printf("  %d dead letters: asked for within %s, ended within %s (%.0f/s), %d outcomes stored, %d seen live, %d left\n",
		n, asked.Round(time.Second), all.Round(time.Second), float64(n)/all.Seconds(), stored, succeeded.Load(), r.messages(ctx, "RETRY_DEAD"))
	if stored != uint64(n) {
		return fmt.Errorf("%d replayed operations have %d outcomes", n, stored)
	}
	return nil
}

// submit publishes n operations and waits for their acknowledgements.
func (r *rig) submit(ctx context.Context, n int) error {
	data := make([]byte, 512)
	for range n {
		if _, err := r.js.PublishMsgAsync(&nats.Msg{Subject: "retry.submit.bench.op", Data: data}, jetstream.WithStallWait(time.Minute)); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	select {
	case <-r.js.PublishAsyncComplete():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// countOutcomes counts the outcomes with one name as they are published.
func (r *rig) countOutcomes(name string) (*atomic.Int64, error) {
	var n atomic.Int64
	_, err := r.nc.Subscribe("retry.outcome."+name+".>", func(m *nats.Msg) {
		if json.Valid(m.Data) {
			n.Add(1)
		}
	})
	return &n, err
}
