//go:build linux

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"strings"

	"github.com/rebound-mq/rebound/internal/chaos"
)

// job is one history to be run.
type job struct {
	kind *chaos.Kind
	seed uint64
	// kept jobs failed once.
	kept bool
}

// maxKept is how many kept seeds are run again, the latest ones.
const maxKept = 12

// plan says which histories are run: those that failed once, when no seed is given,
// and then each kind in turn.
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

// kept reads the seeds that failed once.
func (o *options) kept(kinds []*chaos.Kind) ([]job, error) {
	if o.seeds == "" {
		return nil, nil
	}
	f, err := os.Open(o.seeds)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var jobs []job
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "#") || lines.Text() == "" {
			continue
		}
		var name string
		j := job{kept: true}
		if _, err := fmt.Sscan(lines.Text(), &name, &j.seed); err != nil {
			return nil, fmt.Errorf("%s: line %q is not a kind and a seed", o.seeds, lines.Text())
		}
		for _, k := range kinds {
			if k.Name == name {
				j.kind = k
			}
		}
		if j.kind != nil {
			jobs = append(jobs, j)
		}
	}
	return jobs[max(len(jobs)-maxKept, 0):], nil
}

// keep adds a history that failed to the seeds.
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
