//go:build linux

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"slices"
	"strings"

	"github.com/rebound-mq/rebound/internal/chaos"
)

// job is one history to run.
type job struct {
	kind *chaos.Kind
	seed uint64
	// kept jobs failed once.
	kept bool
}

// maxKept bounds the kept seeds that are run again, to the latest ones.
const maxKept = 12

// plan returns the histories to run: if no seed is given, first those that failed once; then each
// kind in turn.
func (o *options) plan(kinds []*chaos.Kind) ([]job, error) {
	var jobs []job
	seed := o.seed
	if seed == 0 {
		seed = rand.Uint64N(1_000_000) + 1
		kept, err := o.kept(kinds)
		if err != nil {
			return nil, err
		}
		jobs = kept
	}
	histories := o.histories
	if histories == 0 {
		histories = len(kinds)
	}
	for i := range histories {
		jobs = append(jobs, job{kind: kinds[i%len(kinds)], seed: seed + uint64(i)})
	}
	return jobs, nil
}

// kept reads the latest seeds that failed once.
func (o *options) kept(kinds []*chaos.Kind) ([]job, error) {
	if o.seeds == "" {
		return nil, nil
	}
	text, err := os.ReadFile(o.seeds)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	}
	jobs, err := parseSeeds(string(text), kinds)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.seeds, err)
	}
	return jobs[max(len(jobs)-maxKept, 0):], nil
}

// parseSeeds reads lines with a kind and a seed, besides empty ones and comments. It skips kinds
// that are not chosen.
func parseSeeds(text string, kinds []*chaos.Kind) ([]job, error) {
	var jobs []job
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		var name string
		var seed uint64
		if _, err := fmt.Sscan(line, &name, &seed); err != nil {
			return nil, fmt.Errorf("line %q is not a kind and a seed", line)
		}
		if i := slices.IndexFunc(kinds, func(k *chaos.Kind) bool { return k.Name == name }); i >= 0 {
			jobs = append(jobs, job{kind: kinds[i], seed: seed, kept: true})
		}
	}
	return jobs, nil
}

// keep adds a failed history to the seeds.
func (o *options) keep(j job) error {
	if o.seeds == "" || j.kept {
		return nil
	}
	line := fmt.Sprintf("%s %d\n", j.kind.Name, j.seed)
	known, err := os.ReadFile(o.seeds)
	if err != nil && !errors.Is(err, fs.ErrNotExist) || strings.Contains("\n"+string(known), "\n"+line) {
		return err
	}
	f, err := os.OpenFile(o.seeds, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(line)
	return errors.Join(err, f.Close())
}
