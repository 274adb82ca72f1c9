package peers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/rebound-mq/rebound/bench/compare"
)

const (
	// submitEvery is how often operations are submitted when they have a rate.
	submitEvery = 5 * time.Millisecond
	// settleWithin bounds how long a server may take to know of the last end, and settlePoll is how
	// often it is asked.
	settleWithin, settlePoll = 2 * time.Minute, 50 * time.Millisecond
	// waitFor is the delay of operations that only wait.
	waitFor = 24 * time.Hour
)

// The calls that a worker answers.
const (
	callRun  = "run"
	callPark = "park"
)

// setup is what a process that submits and executes is told.
type setup struct {
	// Address is where the server listens.
	Address string `json:"address"`
	// Workers is how many executions may be under way.
	Workers int `json:"workers"`
	// Fails says that the first execution of each operation fails. Without it what failed elsewhere
	// is handed over, and its first execution is the retry.
	Fails bool `json:"fails"`
}

// parking asks for operations that wait for a day.
type parking struct {
	Operations int `json:"operations"`
	Size       int `json:"size"`
}

// queue is a peer as the programs of its users see it.
type queue interface {
	// start begins to execute operations.
	start(ctx context.Context, r *record) error
	// submit stores the operations from ≤ i < to, which are due after their delays if delayed.
	submit(ctx context.Context, from, to int, delays delays) error
	// settled reports whether the server knows that every operation ended.
	settled(ctx context.Context, operations int) (bool, error)
	// stop ends what start began.
	stop() error
}

// delays returns how long an operation waits after its submission. Nil means that none waits.
type delays func(i int) time.Duration

// role returns the role of a worker of a peer, with the way to open its queue.
func role(open func(ctx context.Context, s setup) (queue, error)) compare.Role {
	return func(ctx context.Context, arguments json.RawMessage) (any, compare.Answer, error) {
		var s setup
		if err := json.Unmarshal(arguments, &s); err != nil {
			return nil, nil, err
		}
		q, err := open(ctx, s)
		if err != nil {
			return nil, nil, err
		}
		return nil, worker{q, s}.answer, nil
	}
}

// worker submits to a queue and executes what it holds.
type worker struct {
	queue queue
	setup setup
}

func (w worker) answer(ctx context.Context, call string, arguments json.RawMessage) (any, error) {
	switch call {
	case callRun:
		var load compare.Load
		if err := json.Unmarshal(arguments, &load); err != nil {
			return nil, err
		}
		return w.run(ctx, load)
	case callPark:
		var p parking
		if err := json.Unmarshal(arguments, &p); err != nil {
			return nil, err
		}
		return nil, w.park(ctx, p)
	}
	return nil, fmt.Errorf("there is no call %s", call)
}

func (w worker) run(ctx context.Context, load compare.Load) (result compare.Result, err error) {
	r := newRecord(load, w.setup.Fails, time.Now())
	if err := w.queue.start(ctx, r); err != nil {
		return result, fmt.Errorf("starting the workers: %w", err)
	}
	defer func() { err = errors.Join(err, w.queue.stop()) }()
	began := time.Now()
	if err := w.submit(ctx, r); err != nil {
		return result, fmt.Errorf("submitting: %w", err)
	}
	if err := w.awaitEnds(ctx, r); err != nil {
		return result, err
	}
	return r.result(began), nil
}

// submit submits all operations of a load at its rate.
func (w worker) submit(ctx context.Context, r *record) error {
	var after delays
	if !w.setup.Fails {
		after = func(i int) time.Duration { return r.delay(i, time.Now()) }
	}
	if r.load.Rate == 0 {
		return w.queue.submit(ctx, 0, r.load.Operations, after)
	}
	start := time.Now()
	pace := time.NewTicker(submitEvery)
	defer pace.Stop()
	for next := 0; next < r.load.Operations; {
		select {
		case <-pace.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		to := min(int(time.Since(start).Seconds()*r.load.Rate), r.load.Operations)
		if err := w.queue.submit(ctx, next, to, after); err != nil {
			return err
		}
		next = to
	}
	return nil
}

// awaitEnds waits until every operation has succeeded and the server knows it.
func (w worker) awaitEnds(ctx context.Context, r *record) error {
	select {
	case <-r.done:
	case <-ctx.Done():
		return fmt.Errorf("%d of %d ended: %w", r.ended.Load(), r.load.Operations, ctx.Err())
	}
	ctx, cancel := context.WithTimeout(ctx, settleWithin)
	defer cancel()
	ticker := time.NewTicker(settlePoll)
	defer ticker.Stop()
	for {
		settled, err := w.queue.settled(ctx, r.load.Operations)
		if err != nil {
			return fmt.Errorf("asking the server for what is left: %w", err)
		}
		if settled {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("the server does not know of all ends: %w", ctx.Err())
		}
	}
}

// park stores operations that wait, while the workers run.
func (w worker) park(ctx context.Context, p parking) (err error) {
	r := newRecord(compare.Load{Operations: p.Operations, Size: p.Size}, w.setup.Fails, time.Now())
	if err := w.queue.start(ctx, r); err != nil {
		return fmt.Errorf("starting the workers: %w", err)
	}
	// The workers go on, because a service whose operations wait runs as well.
	return w.queue.submit(ctx, 0, p.Operations, func(int) time.Duration { return waitFor })
}
