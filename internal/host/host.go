// Package host measures how busy the machine is. Health and backpressure use the figures
// of [Sampler].
package host

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/shirou/gopsutil/v4/cpu"
	"github.com/shirou/gopsutil/v4/load"
	"github.com/shirou/gopsutil/v4/mem"

	"github.com/rebound-mq/rebound/health"
	"github.com/rebound-mq/rebound/internal/backoff"
)

// Interval is how often a [Sampler] measures by default.
const Interval = 5 * time.Second

// Sampler measures the host. In a container the figures are those of the whole machine.
type Sampler struct {
	// Measured is called with every measurement, from the goroutine of Run.
	Measured func(health.Host)
	// Failed is called when something cannot be measured, which then counts as 0. It is
	// called at most once a run, because the failure would repeat every time.
	Failed func(error)
	// Interval is how often to measure, [Interval] when zero.
	Interval time.Duration
}

// Run measures until ctx ends. The first measurement is made at once and lacks the CPU
// utilisation, which takes an interval to measure.
func (s *Sampler) Run(ctx context.Context) {
	interval := s.Interval
	if interval <= 0 {
		interval = Interval
	}
	var h health.Host
	reported := false
	for {
		err := measure(ctx, &h)
		if ctx.Err() == nil {
			s.Measured(h)
		}
		var cpuErr error
		h.CPUUtilization, cpuErr = cpuOver(ctx, interval)
		if ctx.Err() != nil {
			return
		}
		if err = errors.Join(err, cpuErr); err != nil && !reported {
			reported = true
			s.Failed(err)
		}
		if cpuErr != nil && !backoff.Sleep(ctx, interval) {
			return
		}
	}
}

// measure reads into h what can be read at once.
func measure(ctx context.Context, h *health.Host) error {
	h.MemoryUtilization, h.SystemLoad = 0, 0
	memory, memErr := mem.VirtualMemoryWithContext(ctx)
	if memErr == nil {
		h.MemoryUtilization = percent(memory.UsedPercent)
	} else {
		memErr = fmt.Errorf("measuring the host's memory: %w", memErr)
	}
	average, loadErr := load.AvgWithContext(ctx)
	if loadErr == nil {
		h.SystemLoad = max(average.Load1, 0) / float64(runtime.NumCPU())
	} else {
		loadErr = fmt.Errorf("measuring the host's load: %w", loadErr)
	}
	return errors.Join(memErr, loadErr)
}

// cpuOver measures the CPU utilisation over an interval, which it waits for.
func cpuOver(ctx context.Context, interval time.Duration) (float64, error) {
	all, err := cpu.PercentWithContext(ctx, interval, false)
	if err != nil {
		return 0, fmt.Errorf("measuring the host's CPU: %w", err)
	}
	if len(all) == 0 {
		return 0, nil
	}
	return percent(all[0]), nil
}

// percent clamps v to 0 to 100; NaN becomes 0.
func percent(v float64) float64 {
	if !(v > 0) {
		return 0
	}
	return min(v, 100)
}
