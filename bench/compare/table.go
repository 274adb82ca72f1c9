package compare

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/rebound-mq/rebound/internal/cli/terminal"
)

// table is the medians of one measurement, a row for each contender.
type table struct {
	title    string
	headings []string
	rows     [][]string
}

// tables returns the medians of all measurements.
func (r Report) tables() []table {
	var all []table
	for _, m := range r.Plan.Measurements {
		var t table
		switch {
		case m.Waiting > 0:
			t = r.memoryTable(m)
		case m.Load.Rate > 0:
			t = r.latenessTable(m)
		default:
			t = r.throughputTable(m)
		}
		if len(t.rows) > 0 {
			t.title = m.Name + ": " + m.About
			all = append(all, t)
		}
	}
	return all
}

// rows calls row for each contender that was measured, in the plan's order.
func (r Report) rows(m Measurement, row func(samples []Sample) []string) [][]string {
	var rows [][]string
	for _, c := range r.Plan.Contenders {
		if samples := r.Of(c.Name, m.Name); len(samples) > 0 {
			rows = append(rows, append([]string{c.Name}, row(samples)...))
		}
	}
	return rows
}

func (r Report) throughputTable(m Measurement) table {
	return table{
		headings: []string{"contender", "ops/s", r.ofBaseline(), "service µs", "server µs", "harness µs", "allocations", "all values of ops/s", "load average"},
		rows: r.rows(m, func(samples []Sample) []string {
			return []string{
				perSecond(median(each(samples, rate))), r.againstBaseline(m, samples), cpuCell(samples, RoleService), cpuCell(samples, RoleServer), cpuCell(samples, RoleHarness),
				allocations(median(each(samples, func(s Sample) float64 { return s.Allocations }))),
				joined(each(samples, func(s Sample) string { return perSecond(s.Rate) })), joined(each(samples, loadOf)),
			}
		}),
	}
}

func (r Report) ofBaseline() string { return "of the " + r.Plan.Baseline }

// againstBaseline returns the rate in relation to the baseline's of the same round, the median of
// all rounds.
func (r Report) againstBaseline(m Measurement, samples []Sample) string {
	baseline := make(map[int]float64)
	for _, s := range r.Of(r.Plan.Baseline, m.Name) {
		baseline[s.Round] = s.Rate
	}
	var ratios []float64
	for _, s := range samples {
		if base := baseline[s.Round]; base > 0 {
			ratios = append(ratios, s.Rate/base)
		}
	}
	if len(ratios) == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", median(ratios))
}

func (r Report) latenessTable(m Measurement) table {
	late := func(samples []Sample, of func(Lateness) time.Duration) string {
		return millis(median(each(samples, func(s Sample) time.Duration { return of(s.Late) })))
	}
	return table{
		headings: []string{"contender", "p50 ms", "p99 ms", "max ms", "early", "earliest ms", "service µs", "server µs", "all values of p99", "load average"},
		rows: r.rows(m, func(samples []Sample) []string {
			return []string{
				late(samples, func(l Lateness) time.Duration { return l.P50 }), late(samples, func(l Lateness) time.Duration { return l.P99 }),
				late(samples, func(l Lateness) time.Duration { return l.Max }), earlyCell(samples),
				late(samples, func(l Lateness) time.Duration { return l.Earliest }),
				cpuCell(samples, RoleService), cpuCell(samples, RoleServer),
				joined(each(samples, func(s Sample) string { return millis(s.Late.P99) })), joined(each(samples, loadOf)),
			}
		}),
	}
}

func (r Report) memoryTable(m Measurement) table {
	return table{
		headings: []string{"contender", "service MiB", "server MiB", "parked/s", "load average"},
		rows: r.rows(m, func(samples []Sample) []string {
			s := samples[0]
			return []string{memoryCell(s, RoleService), memoryCell(s, RoleServer), perSecond(s.Rate), s.Load}
		}),
	}
}

// Write writes the tables for a terminal.
func (r Report) Write(w io.Writer) error {
	for _, t := range r.tables() {
		if _, err := io.WriteString(w, "\n"+t.title+"\n"); err != nil {
			return err
		}
		shown := terminal.NewTable(w, t.headings...)
		for _, row := range t.rows {
			cells := make([]any, len(row))
			for i, c := range row {
				cells[i] = c
			}
			shown.Row(cells...)
		}
		if err := shown.Flush(); err != nil {
			return err
		}
	}
	return nil
}

func rate(s Sample) float64  { return s.Rate }
func loadOf(s Sample) string { return s.Load }

func joined(values []string) string { return strings.Join(values, " ") }

// roleIn returns the role under which figures of a role stand: a process that is service and server
// has its figures in the column of the service.
func roleIn[T any](figures map[string]T, role string) (name, mark string, ok bool) {
	if _, ok := figures[role]; ok {
		return role, "", true
	}
	if _, ok := figures[RoleBoth]; ok && role == RoleService {
		return RoleBoth, " (both)", true
	}
	return "", "", false
}

func cpuCell(samples []Sample, role string) string {
	name, mark, ok := roleIn(samples[0].CPU, role)
	if !ok {
		return "-"
	}
	return micros(median(each(samples, func(s Sample) time.Duration { return s.CPU[name] }))) + mark
}

func memoryCell(s Sample, role string) string {
	name, mark, ok := roleIn(s.Memory, role)
	if !ok {
		return "-"
	}
	return mebibytes(s.Memory[name]) + mark
}

func earlyCell(samples []Sample) string {
	all, early := 0, 0
	for _, s := range samples {
		all += s.Late.Operations
		early += s.Late.Early
	}
	if all == 0 {
		return "-"
	}
	return percent(early, all)
}
