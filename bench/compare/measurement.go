package compare

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// Measurement is what is measured of every contender.
type Measurement struct {
	// Name is unique among the measurements, About a phrase for readers.
	Name, About string
	// Load is brought back in every round, after a warm-up of a tenth of it.
	Load Load
	// Waiting is how many operations are parked, in a fresh instance and in the first round only,
	// to measure the memory that they take. Load counts for nothing then, except its Size.
	Waiting int
}

// Sample is what one round of a measurement found.
type Sample struct {
	Contender, Measurement string
	// Round counts from 1. Load is the load average of the machine before the measurement.
	Round int
	Load  string
	// Rate is how many operations a second came back and ended.
	Rate float64
	// CPU is the time that the processes of each role used for one operation.
	CPU map[string]time.Duration
	// Allocations is how many objects the service allocated for one operation; 0 means that this
	// is not known.
	Allocations float64
	// Late says how late operations came back, for a load with a rate.
	Late Lateness
	// Repeats counts executions that nothing asked for.
	Repeats int
	// Memory is what the processes of each role have resident, in bytes.
	Memory map[string]int64
}

// Lateness sums up how late operations came back.
type Lateness struct {
	Operations    int
	P50, P99, Max time.Duration
	// Early counts those that came before they were due, by Earliest at most.
	Early    int
	Earliest time.Duration
}

// lateness sums up how late operations were. It sorts late.
func lateness(late []time.Duration) Lateness {
	if len(late) == 0 {
		return Lateness{}
	}
	slices.Sort(late)
	at := func(share float64) time.Duration { return late[int(share*float64(len(late)-1))] }
	early, _ := slices.BinarySearchFunc(late, 0, cmp.Compare[time.Duration])
	return Lateness{
		Operations: len(late), P50: at(.5), P99: at(.99), Max: at(1),
		Early: early, Earliest: max(-late[0], 0),
	}
}

// measureLoad runs a load on an instance and reads what its processes used meanwhile.
func measureLoad(ctx context.Context, instance Instance, load Load) (Sample, error) {
	s := Sample{Load: loadAverage()}
	processes := append(slices.Clone(instance.Processes()), Process{Role: RoleHarness, PID: os.Getpid()})
	cpu, err := byRole(processes, cpuTime)
	if err != nil {
		return s, err
	}
	mallocs, known := instance.Mallocs(ctx)
	if known != nil && !errors.Is(known, ErrUnknown) {
		return s, known
	}
	result, err := instance.Run(ctx, load)
	if err != nil {
		return s, err
	}
	used, err := byRole(processes, cpuTime)
	if err != nil {
		return s, err
	}
	n := float64(load.Operations)
	s.CPU = make(map[string]time.Duration)
	for role := range used {
		s.CPU[role] = time.Duration(float64(used[role]-cpu[role]) / n)
	}
	if known == nil {
		after, err := instance.Mallocs(ctx)
		if err != nil {
			return s, err
		}
		s.Allocations = float64(after-mallocs) / n
	}
	s.Rate, s.Repeats, s.Late = n/result.Took.Seconds(), result.Repeats, lateness(result.Late)
	return s, nil
}

// measureMemory parks operations in an instance and reads what its processes have resident once
// that no longer changes.
func measureMemory(ctx context.Context, instance Instance, n, size int) (Sample, error) {
	s := Sample{Load: loadAverage()}
	start := time.Now()
	if err := instance.Park(ctx, n, size); err != nil {
		return s, err
	}
	s.Rate = float64(n) / time.Since(start).Seconds()
	memory, err := settledMemory(ctx, instance.Processes())
	s.Memory = memory
	return s, err
}

const (
	// settledFor is how many seconds in a row the memory has to be steady: the Go runtime gives
	// memory back in the background. After settleWithin seconds it is taken as it is.
	settledFor, settleWithin = 10, 120
	// steadyWithin is by how many bytes steady memory may change in a second.
	steadyWithin = 512 << 10
)

func settledMemory(ctx context.Context, processes []Process) (memory map[string]int64, err error) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	var last int64
	for steady, i := 0, 0; steady < settledFor && i < settleWithin; i++ {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if memory, err = byRole(processes, resident); err != nil {
			return nil, err
		}
		var sum int64
		for _, bytes := range memory {
			sum += bytes
		}
		steady++
		if max(sum-last, last-sum) > steadyWithin {
			steady = 0
		}
		last = sum
	}
	return memory, nil
}

// stopped stops an instance after it was used with the result err.
func stopped(instance Instance, err error) error {
	if stop := instance.Stop(); stop != nil {
		return errors.Join(err, fmt.Errorf("stopping: %w", stop))
	}
	return err
}
