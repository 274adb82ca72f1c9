package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// limitedForAll gives every key a breaker, and limits that are never reached. The load of the
	// host must not hold operations back.
	limitedForAll = `
default:
  {maxAttempts: 5, baseDelay: 1ms, maxDelay: 10s, backoffStrategy: fixed, jitterType: none, enableCircuitBreaker: true,
   maxConcurrentRetries: 10000, retryBudgetPerMinute: 10000000, retryBudgetPerHour: 100000000, respectGlobalBackpressure: false}
`
	operationsOfKey = 3
	// forgetAfter replaces the hour after which keys are forgotten.
	forgetAfter = time.Minute
	// leasesEnd is when the last leases have been returned.
	leasesEnd = 5 * time.Second
	metricsAt = "127.0.0.1:18422"
)

// manyKeys processes a few operations of each of many keys, compared with as many of one key, and
// measures what remains: CPU time of the idle instance, memory, the cost of status and of a
// scrape, and the contents of the stores, before and after the keys are forgotten.
func manyKeys(ctx context.Context, r *rig, keys int) error {
	if err := r.startWith(ctx, limitedForAll, "--http", metricsAt, "--forget-idle-after", forgetAfter.String()); err != nil {
		return err
	}
	for _, subject := range []string{"one.op", "*.many"} {
		if _, err := r.nc.QueueSubscribe(subject, "bench", func(m *nats.Msg) { _ = m.Respond(nil) }); err != nil {
			return err
		}
	}
	n := keys * operationsOfKey
	one, err := r.workOff(ctx, n, func(int) string { return "one.op" })
	if err != nil {
		return err
	}
	before, err := r.leftOver(ctx, "before", 0)
	if err != nil {
		return err
	}
	many, err := r.workOff(ctx, n, func(i int) string { return fmt.Sprintf("s%d.many", i%keys) })
	if err != nil {
		return err
	}
	fmt.Printf("  %d operations of one key at %.0f/s (%s of CPU each), of %d keys at %.0f/s (%s): %.0f %%\n",
		n, one.perSecond, one.cpu.Round(time.Microsecond), keys, many.perSecond, many.cpu.Round(time.Microsecond), 100*many.perSecond/one.perSecond)
	if _, err := r.leftOver(ctx, "at once", before); err != nil {
		return err
	}
	fmt.Printf("  keys are forgotten after %s\n", forgetAfter)
	select {
	case <-time.After(forgetAfter + forgetAfter/2):
	case <-ctx.Done():
		return ctx.Err()
	}
	_, err = r.leftOver(ctx, "later", before)
	return err
}

// pace is the rate at which operations end, and the service's CPU time for each.
type pace struct {
	perSecond float64
	cpu       time.Duration
}

// workOff submits n operations, the i-th with the key of(i), and returns the pace at which they
// ended.
func (r *rig) workOff(ctx context.Context, n int, of func(i int) string) (p pace, err error) {
	cpu, err := r.cpuTime()
	if err != nil {
		return p, err
	}
	before := r.messages(ctx, "RETRY_OUTCOMES")
	start := time.Now()
	for i := range n {
		_, err := r.js.PublishMsgAsync(&nats.Msg{Subject: "retry.submit." + of(i), Data: make([]byte, 512)}, jetstream.WithStallWait(time.Minute))
		if err != nil {
			return p, err
		}
	}
	// Each operation publishes its outcome and, before that, the event of its delay.
	ended := func() bool { return r.messages(ctx, "RETRY_OUTCOMES") >= before+2*uint64(n) }
	if err := await(ctx, 10*time.Minute, ended); err != nil {
		return p, fmt.Errorf("%d of %d events: %w", r.messages(ctx, "RETRY_OUTCOMES")-before, 2*n, err)
	}
	p.perSecond = float64(n) / time.Since(start).Seconds()
	used, err := r.cpuTime()
	p.cpu = (used - cpu) / time.Duration(n)
	return p, err
}

// settled returns the resident memory after a time in which the service releases some, within ten
// seconds of its last work.
func (r *rig) settled(ctx context.Context) (int64, error) {
	select {
	case <-time.After(25 * time.Second):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	return r.resident()
}

// leftOver prints what unused keys cost, and returns the resident memory, which it compares with
// before. It always makes the same requests, because answering takes memory as well.
func (r *rig) leftOver(ctx context.Context, when string, before int64) (memory int64, err error) {
	select {
	case <-time.After(leasesEnd):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	percent, _, err := r.idle(ctx)
	if err != nil {
		return 0, err
	}
	took, lines, err := r.timed(ctx, "status")
	if err != nil {
		return 0, err
	}
	list, _, err := r.timed(ctx, "breaker", "list")
	if err != nil {
		return 0, err
	}
	scraped, err := scrape(ctx)
	if err != nil {
		return 0, err
	}
	if memory, err = r.settled(ctx); err != nil {
		return 0, err
	}
	if before == 0 {
		before = memory
	}
	fmt.Printf("  %s: %.1f %% of a core, status %s and %d lines, breaker list %s, scrape %d KiB, %.1f MiB (%.2f times), %d breakers and %d ledgers stored\n",
		when, percent, took.Round(time.Millisecond), lines, list.Round(time.Millisecond), scraped>>10,
		float64(memory)/(1<<20), float64(memory)/float64(before), r.messages(ctx, "KV_RETRY_BREAKERS"), r.messages(ctx, "KV_RETRY_LEDGERS"))
	return memory, nil
}

// timed runs a command of the program and returns how long it took and how many lines it printed.
func (r *rig) timed(ctx context.Context, args ...string) (took time.Duration, lines int, err error) {
	start := time.Now()
	out, err := exec.CommandContext(ctx, r.binary, append(args, "--nats", r.url)...).Output()
	if err != nil {
		return 0, 0, fmt.Errorf("rebound %v: %w", args, err)
	}
	return time.Since(start), bytes.Count(out, []byte("\n")), nil
}

// scrape returns the size of the metrics in bytes.
func scrape(ctx context.Context) (int64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+metricsAt+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, fmt.Errorf("scraping the metrics: %w", err)
	}
	defer response.Body.Close()
	return io.Copy(io.Discard, response.Body)
}
