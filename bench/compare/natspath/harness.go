package natspath

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/bench/compare"
)

const (
	// target is the subject that is asked to try an operation again.
	target = "bench.op"
	// submitted is how many submissions may be on their way to the server.
	submitted = 4096
)

// harness submits operations, is their target and counts their ends. Its methods are used by one
// goroutine; the connection's call the rest.
type harness struct {
	nc *nats.Conn
	js jetstream.JetStream
	// parked counts the operations that wait for a day.
	parked int

	mu  sync.Mutex // guards the fields below
	run *tally
	// refused is why the server did not store a submission, nil if it stored all.
	refused error
}

// tally counts what comes back during one run.
type tally struct {
	load compare.Load
	// ended counts the ends, came the operations that came back, and seen which.
	ended, came, repeats int
	seen                 []bool
	late                 []time.Duration
	// endsAtTarget says that an operation ends when its target has answered.
	endsAtTarget bool
	done         chan struct{}
}

func newTally(load compare.Load, endsAtTarget bool) *tally {
	return &tally{load: load, seen: make([]bool, load.Operations), endsAtTarget: endsAtTarget, done: make(chan struct{})}
}

// connect makes a harness that answers for the target.
func connect(url string) (*harness, error) {
	nc, err := nats.Connect(url, nats.Timeout(10*time.Second))
	if err != nil {
		return nil, fmt.Errorf("connecting to the NATS server: %w", err)
	}
	h := &harness{nc: nc}
	h.js, err = jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(submitted), jetstream.WithPublishAsyncErrHandler(h.refuse))
	if err != nil {
		nc.Close()
		return nil, err
	}
	if _, err := nc.Subscribe(target, h.answer); err != nil {
		nc.Close()
		return nil, fmt.Errorf("subscribing to the target: %w", err)
	}
	return h, nil
}

// answer is the target: every operation that comes back succeeds at once.
func (h *harness) answer(m *nats.Msg) {
	now := time.Now()
	if err := m.Respond(nil); err != nil {
		return // the contender asks again
	}
	i, due, ok := compare.ReadPayload(m.Data)
	if !ok {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.run == nil || i >= len(h.run.seen) {
		return
	}
	if h.run.seen[i] {
		h.run.repeats++
		return
	}
	h.run.seen[i] = true
	h.run.came++
	if h.run.load.Rate > 0 {
		h.run.late = append(h.run.late, now.Sub(due))
	}
	if h.run.endsAtTarget {
		h.run.end()
	}
}

// end counts an end of the run.
func (h *harness) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.run != nil {
		h.run.end()
	}
}

func (t *tally) end() {
	if t.ended++; t.ended == t.load.Operations {
		close(t.done)
	}
}

// bring runs a load, of which submit hands over one operation.
func (h *harness) bring(ctx context.Context, t *tally, submit submission) (compare.Result, error) {
	h.mu.Lock()
	h.run = t
	h.mu.Unlock()
	start := time.Now()
	if err := h.submitAll(ctx, t.load, submit); err != nil {
		return compare.Result{}, fmt.Errorf("submitting: %w", err)
	}
	select {
	case <-t.done:
	case <-ctx.Done():
	}
	took := time.Since(start)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.run = nil
	if t.ended < t.load.Operations || t.came < t.load.Operations {
		return compare.Result{}, fmt.Errorf("of %d operations %d came back and %d ended: %w", t.load.Operations, t.came, t.ended, context.Cause(ctx))
	}
	return compare.Result{Took: took, Late: t.late, Repeats: t.repeats}, nil
}

// submission returns the message that hands over one operation.
type submission func(i int, payload []byte, delay time.Duration) *nats.Msg

// submitAll publishes the operations of a load and waits until all are stored.
func (h *harness) submitAll(ctx context.Context, load compare.Load, submit submission) error {
	err := load.Submit(ctx, func(i int, payload []byte, delay time.Duration) error {
		_, err := h.js.PublishMsgAsync(submit(i, payload, delay), jetstream.WithStallWait(time.Minute))
		return err
	})
	if err != nil {
		return err
	}
	select {
	case <-h.js.PublishAsyncComplete():
	case <-ctx.Done():
		return ctx.Err()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.refused
}

// refuse records that a submission was not stored.
func (h *harness) refuse(_ jetstream.JetStream, _ *nats.Msg, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refused = err
}

// await polls until the condition holds.
func await(ctx context.Context, within time.Duration, cond func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		if ok, err := cond(); ok || err != nil {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("not within %s: %w", within, ctx.Err())
		}
	}
}

// messages returns how many messages a stream has.
func (h *harness) messages(ctx context.Context, stream string) (int, error) {
	s, err := h.js.Stream(ctx, stream)
	if err != nil {
		return 0, err
	}
	return int(s.CachedInfo().State.Msgs), nil
}
