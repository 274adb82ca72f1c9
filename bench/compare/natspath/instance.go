package natspath

import (
	"context"
	"errors"

	"github.com/rebound-mq/rebound/bench/compare"
)

// instance is a contender on NATS.
type instance struct {
	*harness
	processes []compare.Process
	// mallocs may be nil.
	mallocs func(ctx context.Context) (uint64, error)
	// submit hands over one operation, and park has many wait.
	submit submission
	park   func(ctx context.Context, n, size int) error
	// endsAtTarget says that an operation ends when its target has answered.
	endsAtTarget bool
	// stops are called in reverse order.
	stops []func() error
}

func (i *instance) Processes() []compare.Process { return i.processes }

func (i *instance) Mallocs(ctx context.Context) (uint64, error) {
	if i.mallocs == nil {
		return 0, compare.ErrUnknown
	}
	return i.mallocs(ctx)
}

func (i *instance) Run(ctx context.Context, load compare.Load) (compare.Result, error) {
	return i.bring(ctx, newTally(load, i.endsAtTarget), i.submit)
}

func (i *instance) Park(ctx context.Context, n, size int) error { return i.park(ctx, n, size) }

func (i *instance) Stop() error {
	if i.harness != nil {
		i.nc.Close()
	}
	var failed []error
	for n := len(i.stops) - 1; n >= 0; n-- {
		failed = append(failed, i.stops[n]())
	}
	return errors.Join(failed...)
}

// started returns i, or stops what was started of it if err is an error.
func (i *instance) started(err error) (compare.Instance, error) {
	if err != nil {
		return nil, errors.Join(err, i.Stop())
	}
	return i, nil
}

// runs adds a process that belongs to the instance.
func (i *instance) runs(role string, p interface {
	PID() int
	Stop() error
},
) {
	i.processes = append(i.processes, compare.Process{Role: role, PID: p.PID()})
	i.stops = append(i.stops, p.Stop)
}
