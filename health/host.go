package health

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/shirou/gopsutil/v4/cpu"
	"github.com/shirou/gopsutil/v4/load"
	"github.com/shirou/gopsutil/v4/mem"
)

// Host is how busy the host of this instance is.
type Host struct {
	// CPUUtilization and MemoryUtilization are in percent, 0 to 100.
	CPUUtilization    float64 `json:"cpuUtilization"`
	MemoryUtilization float64 `json:"memoryUtilization"`
	// SystemLoad is the load average of the last minute per core; 1 keeps every
	// core busy.
	SystemLoad float64 `json:"systemLoad"`
}

// SampleInterval is how often a [Sampler] measures.
const SampleInterval = 5 * time.Second

// Sampler measures the host. In a container that is the machine's own figures.
type Sampler struct {
	// Measured is called with every measurement, from the goroutine of Run.
	Measured func(Host)
	// Failed is called when something cannot be measured, which then counts as 0;
	// at most once for each run, because it would fail every time.
	Failed func(error)
	// Interval is how often to measure, [SampleInterval] when zero.
	Interval time.Duration
}

// Run measures until ctx ends. The first measurement comes at once and has no CPU
// utilisation, which takes an interval to measure.
func (s *Sampler) Run(ctx context.Context) {
	interval := s.Interval
	if interval <= 0 {
		interval = SampleInterval
	}
	var h Host
	told := false
	for {
		err := h.measure(ctx)
		if ctx.Err() == nil {
			s.Measured(h)
		}
		var cpuErr error
		h.CPUUtilization, cpuErr = cpuOver(ctx, interval)
		if ctx.Err() != nil {
			return
		}
		if err = errors.Join(err, cpuErr); err != nil && !told {
			told = true
			s.Failed(err)
		}
		if cpuErr != nil && !pause(ctx, interval) {
			return
		}
	}
}

// measure reads what can be read at once.
func (h *Host) measure(ctx context.Context) error {
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

// percent keeps what was measured between 0 and 100, and makes what is no number
// 0.
func percent(v float64) float64 {
	if !(v > 0) {
		return 0
	}
	return min(v, 100)
}

// pause reports whether it lasted for d, rather than being ended by ctx.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
