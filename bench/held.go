package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/events/wire"
)

// breakerForAll gives every key a breaker. Delays are too short for parking, so that submissions
// are due at once.
const breakerForAll = `
default: {maxAttempts: 50, baseDelay: 10ms, maxDelay: 1s, backoffStrategy: exponential, jitterType: full, enableCircuitBreaker: true}
`

// idleFor is how long the CPU time of an idle process is measured.
const idleFor = 10 * time.Second

// held measures what operations cost while their gate is shut: CPU time of the service and writes
// to the stream during some seconds, compared with no held operations. Then it opens the gate and
// measures how fast they leave.
func held(ctx context.Context, r *rig, n int) error {
	if err := r.start(ctx, breakerForAll); err != nil {
		return err
	}
	var attempts atomic.Int64
	sub, err := r.nc.Subscribe("bench.op", func(m *nats.Msg) {
		attempts.Add(1)
		_ = m.Respond(nil)
	})
	if err != nil {
		return err
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := r.operate("hold"); err != nil {
		return err
	}
	none, _, err := r.idle(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("  none held:    %6.2f %% of a core\n", none)
	if err := r.fillLane(ctx, n); err != nil {
		return err
	}
	busy, written, err := r.idle(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("  %d held: %6.2f %% of a core, %d messages written to the stream, %d attempts made\n", n, busy, written, attempts.Load())
	start := time.Now()
	if err := r.operate("reset"); err != nil {
		return err
	}
	if err := await(ctx, 10*time.Minute, func() bool { return r.messages(ctx, "RETRY") == 0 }); err != nil {
		return err
	}
	fmt.Printf("  let out and done at %.0f/s\n", float64(n)/time.Since(start).Seconds())
	return nil
}

// fillLane submits operations whose gate is shut and waits until all are held.
func (r *rig) fillLane(ctx context.Context, n int) error {
	start := time.Now()
	if err := r.submit(ctx, n); err != nil {
		return err
	}
	err := await(ctx, 10*time.Minute, func() bool { return r.messages(ctx, "RETRY") == uint64(n) && r.messages(ctx, "RETRY_INTAKE") == 0 })
	if err == nil {
		fmt.Printf("  %d held at %.0f/s\n", n, float64(n)/time.Since(start).Seconds())
	}
	return err
}

// operate acts on the breaker of the benchmark's key.
func (r *rig) operate(what string) error {
	m, err := r.nc.Request("rebound.breaker."+what, []byte(`{"key":"bench:op"}`), 10*time.Second)
	if err == nil {
		if code, text := wire.MicroError(m.Header); code != "" {
			err = errors.New(text)
		}
	}
	if err != nil {
		return fmt.Errorf("%s of the breaker: %w", what, err)
	}
	return nil
}

// idle measures for a while what an idle service does: its percentage of a core, and the messages
// written to the stream of waiting operations.
func (r *rig) idle(ctx context.Context) (percent float64, written uint64, err error) {
	select {
	case <-time.After(3 * time.Second): // let the last work finish
	case <-ctx.Done():
		return 0, 0, ctx.Err()
	}
	before, err := r.cpuTime()
	if err != nil {
		return 0, 0, err
	}
	first := r.lastSequence(ctx)
	start := time.Now()
	select {
	case <-time.After(idleFor):
	case <-ctx.Done():
		return 0, 0, ctx.Err()
	}
	after, err := r.cpuTime()
	if err != nil {
		return 0, 0, err
	}
	return 100 * float64(after-before) / float64(time.Since(start)), r.lastSequence(ctx) - first, nil
}

func (r *rig) lastSequence(ctx context.Context) uint64 {
	s, err := r.js.Stream(ctx, "RETRY")
	if err != nil {
		return 0
	}
	return s.CachedInfo().State.LastSeq
}

// cpuTime returns the CPU time that the service has used.
func (r *rig) cpuTime() (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", r.service.Process.Pid))
	if err != nil {
		return 0, err
	}
	// The command's name, in parentheses, may contain spaces.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	const user, system, tick = 11, 12, 10 * time.Millisecond
	if len(fields) <= system {
		return 0, errors.New("/proc has no CPU time")
	}
	var ticks int64
	for _, f := range []int{user, system} {
		n, err := strconv.ParseInt(fields[f], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("reading the CPU time: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * tick, nil
}
