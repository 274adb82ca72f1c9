package compare

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// line shows a sample in one line.
func (s Sample) line() string {
	parts := []string{fmt.Sprintf("%s, %s: %.0f/s", s.Contender, s.Measurement, s.Rate)}
	for _, role := range rolesOf(s.CPU) {
		parts = append(parts, fmt.Sprintf("%s %s µs", role, micros(s.CPU[role])))
	}
	for _, role := range rolesOf(s.Memory) {
		parts = append(parts, fmt.Sprintf("%s %s MiB", role, mebibytes(s.Memory[role])))
	}
	if s.Allocations > 0 {
		parts = append(parts, fmt.Sprintf("%.0f allocations", s.Allocations))
	}
	if s.Late.Operations > 0 {
		parts = append(parts, "late "+s.Late.String())
	}
	if s.Repeats > 0 {
		parts = append(parts, fmt.Sprintf("%d repeats", s.Repeats))
	}
	return strings.Join(append(parts, "load average "+s.Load), ", ")
}

// String shows how late operations were, in milliseconds.
func (l Lateness) String() string {
	text := fmt.Sprintf("p50 %s p99 %s max %s ms", millis(l.P50), millis(l.P99), millis(l.Max))
	if l.Early > 0 {
		text += fmt.Sprintf(", %d early by up to %s ms", l.Early, millis(l.Earliest))
	}
	return text
}

func micros(d time.Duration) string { return fmt.Sprintf("%.0f", float64(d)/float64(time.Microsecond)) }

func millis(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d)/float64(time.Millisecond)) }
func mebibytes(bytes int64) string  { return fmt.Sprintf("%.0f", float64(bytes)/(1<<20)) }
func perSecond(rate float64) string { return fmt.Sprintf("%.0f", rate) }
func allocations(n float64) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f", n)
}

// percent shows a part of all, and nothing as 0.
func percent(part, all int) string {
	if part == 0 {
		return "0"
	}
	return fmt.Sprintf("%.1f %%", 100*float64(part)/float64(all))
}

// rolesOf returns the roles that figures are known of, in the order of the tables.
func rolesOf[T any](figures map[string]T) []string {
	var roles []string
	for _, role := range []string{RoleService, RoleBoth, RoleServer, RoleHarness} {
		if _, ok := figures[role]; ok {
			roles = append(roles, role)
		}
	}
	return roles
}

// median returns the middle one of values, the lower one of two, and the zero value of none.
func median[T cmp.Ordered](values []T) (middle T) {
	if len(values) == 0 {
		return middle
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[(len(sorted)-1)/2]
}

// each returns a figure of each sample.
func each[T any](samples []Sample, figure func(Sample) T) []T {
	figures := make([]T, len(samples))
	for i, s := range samples {
		figures[i] = figure(s)
	}
	return figures
}

// Of returns the samples of a contender and a measurement, in the order of the rounds.
func (r Report) Of(contender, measurement string) []Sample {
	var found []Sample
	for _, s := range r.Samples {
		if s.Contender == contender && s.Measurement == measurement {
			found = append(found, s)
		}
	}
	return found
}
