//go:build linux

package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	eventwire "github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/internal/backoff"
	"github.com/rebound-mq/rebound/internal/chaos/proof"
)

// operator causes the faults, one after the other, and does what operators do.
type operator struct {
	h   *history
	rng *rand.Rand
	nc  *nats.Conn // of the common account
	sys *nats.Conn // of the system account
	js  jetstream.JetStream
	// touched are the keys whose breakers the operator changed.
	touched map[string]bool
	// paused are the patterns that may be paused, with the pause that is certain, or nil.
	paused map[string]*proof.Pause
}

// A fault returns once it has ended.
type fault func(ctx context.Context, o *operator)

func (h *history) startOperator(context.Context) error {
	o := &operator{h: h, rng: h.rng, touched: make(map[string]bool), paused: make(map[string]*proof.Pause)}
	var err error
	if o.nc, err = h.connect("operator"); err != nil {
		return err
	}
	if o.js, err = jetstream.New(o.nc); err != nil {
		return err
	}
	o.sys, err = nats.Connect(h.urls(), nats.UserInfo("sys", "sys"), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond),
		nats.RetryOnFailedConnect(true), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		return fmt.Errorf("connecting the operator of the system account: %w", err)
	}
	h.closers = append(h.closers, o.sys.Close)
	h.operator = o
	for _, name := range h.kind.Faults {
		if faults[name] == nil {
			return fmt.Errorf("no fault is called %q", name)
		}
	}
	return nil
}

// run causes one fault after the other until ctx ends. It lets a fault that has begun finish.
func (o *operator) run(ctx context.Context) {
	kind := o.h.kind
	for n := 0; len(kind.Faults) > 0 && (kind.Times == 0 || n < kind.Times); n++ {
		rest := kind.Rest/4 + time.Duration(o.rng.Int64N(int64(kind.Rest)*3/4))
		name := kind.Faults[o.rng.IntN(len(kind.Faults))]
		if !backoff.Sleep(ctx, rest) {
			break
		}
		faults[name](o.h.ctx, o)
	}
	<-ctx.Done()
	o.settle()
}

// settle ends every lasting effect.
func (o *operator) settle() {
	h := o.h
	h.target.change(func(m *mood) { *m = mood{} })
	for _, key := range slices.Sorted(maps.Keys(o.touched)) {
		o.breaker(h.ctx, "reset", key, 0)
	}
	for _, pattern := range slices.Sorted(maps.Keys(o.paused)) {
		o.resume(h.ctx, pattern)
	}
	h.note("all faults have ended")
}

// ask sends a request to the service; it returns false if the service did not comply.
func (o *operator) ask(ctx context.Context, subject string, request any) bool {
	body, err := json.Marshal(request)
	if err != nil {
		o.h.failed(err)
		return false
	}
	for range 3 {
		call, cancel := context.WithTimeout(ctx, 3*time.Second)
		answer, err := o.nc.RequestWithContext(call, subject, body)
		cancel()
		if err == nil {
			if code, _ := eventwire.MicroError(answer.Header); code == "" {
				return true
			}
		}
		backoff.Sleep(ctx, 100*time.Millisecond)
	}
	return false
}

// between draws a duration from low to high.
func (o *operator) between(low, high time.Duration) time.Duration {
	return low + time.Duration(o.rng.Int64N(int64(high-low)))
}
