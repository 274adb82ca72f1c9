package peers

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/rebound-mq/rebound/bench/compare"
)

// errPlanned is the failure of the first execution.
var errPlanned = errors.New("the target is unavailable")

// record follows the operations of one load in the process that executes them. It is safe for
// concurrent use.
type record struct {
	load  compare.Load
	start time.Time
	// fails says that the first execution of each operation fails.
	fails bool
	// due and came hold nanoseconds since start for each operation, and 0 while not known.
	due, came []atomic.Int64
	ended     atomic.Int64
	repeats   atomic.Int64
	lastEnd   atomic.Int64 // nanoseconds since start
	done      chan struct{}
}

func newRecord(load compare.Load, fails bool, start time.Time) *record {
	return &record{
		load: load, fails: fails, start: start, done: make(chan struct{}),
		due: make([]atomic.Int64, load.Operations), came: make([]atomic.Int64, load.Operations),
	}
}

// execute returns the result of an execution of operation i that follows so many failures.
func (r *record) execute(i, failures int, now time.Time) error {
	if r.fails && failures == 0 {
		return errPlanned
	}
	since := int64(now.Sub(r.start))
	if !r.came[i].CompareAndSwap(0, since) {
		r.repeats.Add(1)
		return nil
	}
	r.lastEnd.Store(since)
	if r.ended.Add(1) == int64(r.load.Operations) {
		close(r.done)
	}
	return nil
}

// delay returns the delay of operation i, which failed now.
func (r *record) delay(i int, now time.Time) time.Duration {
	delay := r.load.DelayOf(i)
	r.due[i].Store(int64(now.Add(delay).Sub(r.start)))
	return delay
}

// result returns what became of the load, whose submission began at began.
func (r *record) result(began time.Time) compare.Result {
	result := compare.Result{
		Took:    time.Duration(r.lastEnd.Load()) - began.Sub(r.start),
		Repeats: int(r.repeats.Load()),
	}
	if r.load.Rate == 0 {
		return result
	}
	result.Late = make([]time.Duration, len(r.came))
	for i := range r.came {
		result.Late[i] = time.Duration(r.came[i].Load() - r.due[i].Load())
	}
	return result
}
