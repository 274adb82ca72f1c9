package compare

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// Watch compares a contender with a baseline in short loads by turns, to notice that it became
// slower. What it compares is the CPU time of one operation, because that hardly depends on what
// else the machine does meanwhile, and its relation to the baseline's hardly on the machine.
type Watch struct {
	Contender, Baseline Contender
	Load                Load
	// Rounds is how many loads each of the two gets.
	Rounds int
	// Progress is told the figures of each round, a line each.
	Progress io.Writer
}

// Watched is what a [Watch] found.
type Watched struct {
	// Ratio is the baseline's CPU time of one operation divided by the contender's, without the
	// harness: 1 when the contender takes no more than the baseline. It is the median of the rounds.
	Ratio float64 `json:"ratio"`
	// Allocations is how many objects the contender's service allocates for one operation.
	Allocations float64 `json:"allocations"`
}

// Run measures both in fresh processes.
func (w Watch) Run(ctx context.Context) (found Watched, err error) {
	err = with(ctx, w.Baseline, func(baseline Instance) error {
		return with(ctx, w.Contender, func(contender Instance) error {
			found, err = w.measure(ctx, contender, baseline)
			return err
		})
	})
	return found, err
}

func (w Watch) measure(ctx context.Context, contender, baseline Instance) (Watched, error) {
	var ratios, allocated []float64
	for round := range w.Rounds + 1 {
		base, err := measureLoad(ctx, baseline, w.Load)
		if err != nil {
			return Watched{}, fmt.Errorf("%s: %w", w.Baseline.Name, err)
		}
		own, err := measureLoad(ctx, contender, w.Load)
		if err != nil {
			return Watched{}, fmt.Errorf("%s: %w", w.Contender.Name, err)
		}
		if round == 0 {
			continue // a warm-up
		}
		ratio := float64(base.used()) / float64(own.used())
		ratios, allocated = append(ratios, ratio), append(allocated, own.Allocations)
		if w.Progress != nil {
			fmt.Fprintf(w.Progress, "  %2d: %s µs against %s, ratio %.3f, %.0f allocations, load average %s\n",
				round, micros(own.used()), micros(base.used()), ratio, own.Allocations, own.Load)
		}
	}
	return Watched{Ratio: median(ratios), Allocations: median(allocated)}, nil
}

// used is the CPU time of the contender's processes.
func (s Sample) used() (sum time.Duration) {
	for role, d := range s.CPU {
		if role != RoleHarness {
			sum += d
		}
	}
	return sum
}

// ReadWatched reads what was recorded in a file.
func ReadWatched(path string) (w Watched, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return w, err
	}
	return w, json.Unmarshal(data, &w)
}

// Record stores what was found in a file.
func (w Watched) Record(path string) error {
	data, err := json.MarshalIndent(w, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o600)
}

// Against returns an error for each figure that is worse than recorded by more than tolerance, a
// share of what was recorded.
func (w Watched) Against(recorded Watched, tolerance float64) error {
	var failed []error
	if w.Ratio < recorded.Ratio*(1-tolerance) {
		failed = append(failed, fmt.Errorf("the ratio to the baseline is %.3f, more than %.0f %% below the recorded %.3f", w.Ratio, 100*tolerance, recorded.Ratio))
	}
	if w.Allocations > recorded.Allocations*(1+tolerance) {
		failed = append(failed, fmt.Errorf("an operation takes %.0f allocations, more than %.0f %% above the recorded %.0f", w.Allocations, 100*tolerance, recorded.Allocations))
	}
	return errors.Join(failed...)
}
