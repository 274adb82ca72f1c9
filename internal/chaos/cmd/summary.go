//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/rebound-mq/rebound/internal/chaos"
	"github.com/rebound-mq/rebound/internal/chaos/machine"
	"github.com/rebound-mq/rebound/internal/chaos/proof"
)

// summary adds up the results of the histories by kind.
type summary struct {
	options *options

	mu    sync.Mutex
	out   io.Writer // guarded by mu
	rows  []*row    // in the order of their first history; guarded by mu
	again []string  // commands that repeat what failed; guarded by mu
	errs  []error   // guarded by mu
	began time.Time
}

// row has the figures of one kind.
type row struct {
	kind                                           string
	histories, failed, submitted, outcomes, faults int
	classes                                        map[proof.Class]int
	took                                           time.Duration
	missing                                        string // why it cannot run here
}

func newSummary(out io.Writer, o *options) *summary {
	return &summary{out: out, options: o, began: time.Now()}
}

// add counts one history and prints its violations.
func (s *summary) add(ctx context.Context, j job, r *chaos.Report, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	to := s.row(j.kind.Name)
	switch {
	case errors.Is(err, machine.ErrNotHere):
		to.missing = err.Error()
		fmt.Fprintln(s.out, err)
		return
	case err != nil && ctx.Err() != nil:
		return
	case err != nil:
		to.failed++
		s.errs = append(s.errs, err)
		fmt.Fprintln(s.out, err)
		return
	}
	to.histories++
	to.submitted += len(r.Record.Submissions)
	to.outcomes += len(r.Record.Outcomes)
	to.faults += len(r.Record.Faults)
	to.took += r.Took
	counts := make(map[proof.Class]int)
	for _, v := range r.Violations {
		to.classes[v.Class]++
		counts[v.Class]++
	}
	fmt.Fprintf(s.out, "%s  %-18s seed %-8d %5d submitted, %5d attempts, %5d told, %2d faults, %s  %s\n", time.Now().Format("15:04:05"), j.kind.Name, j.seed,
		len(r.Record.Submissions), len(r.Record.Attempts), len(r.Record.Outcomes), len(r.Record.Faults), r.Took.Round(time.Second), verdict(counts))
	if len(r.Record.Series) > 0 {
		for _, f := range r.Record.Faults {
			if strings.HasPrefix(f.What, "the peak") {
				fmt.Fprintln(s.out, f.What)
			}
		}
		s.fail(proof.PrintTrends(s.out, r.Record.Series))
	}
	if len(r.Violations) == 0 {
		return
	}
	to.failed++
	r.Print(s.out)
	command := s.options.command(j)
	s.again = append(s.again, command)
	fmt.Fprintf(s.out, "again: %s\n", command)
	s.fail(s.options.keep(j))
}

// fail records an error of the summary; the caller holds the lock.
func (s *summary) fail(err error) {
	if err != nil {
		s.errs = append(s.errs, err)
	}
}

func verdict(counts map[proof.Class]int) string {
	var parts []string
	for _, c := range proof.Classes {
		if counts[c] > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", c, counts[c]))
		}
	}
	if len(parts) == 0 {
		return "ok"
	}
	return strings.ToUpper(strings.Join(parts, ", "))
}

func (s *summary) row(kind string) *row {
	for _, r := range s.rows {
		if r.kind == kind {
			return r
		}
	}
	r := &row{kind: kind, classes: make(map[proof.Class]int)}
	s.rows = append(s.rows, r)
	return r
}

// command returns the command that repeats a history.
func (o *options) command(j job) string {
	target := "chaos"
	if j.kind.Soak {
		target = "soak"
	}
	command := fmt.Sprintf("make %s KIND=%s SEED=%d HISTORIES=1 SECONDS=%d", target, j.kind.Name, j.seed, int(o.config.Lasting.Seconds()))
	if o.config.Rate > 0 {
		command += fmt.Sprintf(" RATE=%d", o.config.Rate)
	}
	return command
}

// shown are the classes with their own column; the others share one.
var shown = []proof.Class{proof.Lost, proof.Doubled, proof.Early, proof.Stuck, proof.Unmarked}

// end prints the table. It returns an error if anything failed.
func (s *summary) end() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "\nkind\thistories\tfailed\tsubmissions\toutcomes\tfaults")
	for _, c := range shown {
		fmt.Fprintf(w, "\t%s", c)
	}
	fmt.Fprintln(w, "\tother\tduration")
	failed := 0
	for _, r := range s.rows {
		failed += r.failed
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d", r.kind, r.histories, r.failed, r.submitted, r.outcomes, r.faults)
		for _, c := range shown {
			fmt.Fprintf(w, "\t%d", r.classes[c])
		}
		fmt.Fprintf(w, "\t%s\t%s", r.others(), r.took.Round(time.Second))
		if r.missing != "" {
			fmt.Fprintf(w, "\t%s", r.missing)
		}
		fmt.Fprintln(w)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(s.out, "in %s\n", time.Since(s.began).Round(time.Second))
	for _, command := range s.again {
		fmt.Fprintln(s.out, "failed; again with:", command)
	}
	if failed > 0 {
		return errors.Join(append(s.errs, fmt.Errorf("%d histories failed", failed))...)
	}
	return errors.Join(s.errs...)
}

func (r *row) others() string {
	var parts []string
	for _, c := range proof.Classes {
		if r.classes[c] > 0 && !slices.Contains(shown, c) {
			parts = append(parts, fmt.Sprintf("%s %d", c, r.classes[c]))
		}
	}
	if len(parts) == 0 {
		return "-"
	}
	return strings.Join(parts, " ")
}

func list(out io.Writer, kinds []*chaos.Kind) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, k := range kinds {
		fmt.Fprintf(w, "%s\t%s\n", k.Name, k.Purpose)
	}
	return w.Flush()
}
