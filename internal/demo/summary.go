package demo

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/rebound-mq/rebound/events"
)

// Summary is the result of a run.
type Summary struct {
	// Source is the source of the payloads, Payloads their number.
	Source   string  `json:"source"`
	Payloads int     `json:"payloads"`
	Seed     uint64  `json:"seed"`
	Seconds  float64 `json:"seconds"`
	// Stopped is why the run ended before every operation had, if it did.
	Stopped string `json:"stopped,omitempty"`

	// FirstTry counts the webhooks that the target accepted at once, which never became
	// operations.
	FirstTry      int                   `json:"firstTry"`
	Submitted     int                   `json:"submitted"`
	RetrySuccess  int                   `json:"retrySuccess"`
	RetryFailed   int                   `json:"retryFailed"`
	RetryFailedBy map[events.Reason]int `json:"retryFailedBy"`
	DeadLetters   int                   `json:"deadLetters"`
	// Redeliveries counts attempts after the first, Attempts all attempts of each ended
	// operation.
	Redeliveries int   `json:"redeliveries"`
	Attempts     Range `json:"attempts"`
	// TimeToSuccess is measured from the first failure.
	TimeToSuccess Distribution `json:"timeToSuccessMs"`
	// Lateness is the time from when a redelivery was due until it reached the target, and
	// includes what it was held; Early counts those that came before. ReleasedEarly counts those
	// that became due before their time, because the breaker of their key had closed.
	Lateness      Distribution `json:"latenessMs"`
	Early         int          `json:"early"`
	ReleasedEarly int          `json:"releasedEarly"`
	// Duplicates counts operations that the target accepted more than once: sometimes it answers
	// an accepted delivery too late, which leads to another attempt. NeedlessDuplicates counts
	// those among them that it had accepted in time more than once.
	Duplicates         int `json:"duplicates"`
	NeedlessDuplicates int `json:"needlessDuplicates"`
	// RepeatedAttempts counts attempts that reached the target again with the same number.
	RepeatedAttempts int `json:"repeatedAttempts"`

	// Unfinished counts operations that still wait, safe in their stream.
	Unfinished int `json:"unfinished"`
	// Faults are the operations that did not end as they must.
	Faults []Fault `json:"faults,omitempty"`
	// Kept is the directory with the store and the log, if it was kept.
	Kept string `json:"kept,omitempty"`
}

// Range is the minimum, the median and the maximum of whole numbers.
type Range struct {
	Min    int `json:"min"`
	Median int `json:"median"`
	Max    int `json:"max"`
}

// Distribution holds percentiles, in milliseconds.
type Distribution struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// verdict returns the error for a run that should have ended goal operations, 0 for no fixed
// number, and that was stopped for a reason or for none.
func (s Summary) verdict(goal int, stopped error) error {
	var err error
	switch {
	case len(s.Faults) > 0:
		err = &FaultsError{s.Faults}
	case goal > 0 && (s.Submitted < goal || s.Unfinished > 0):
		err = fmt.Errorf("%w: %d of %d were submitted, %d still wait", ErrUnfinished, s.Submitted, goal, s.Unfinished)
	}
	if err != nil && stopped != nil {
		return fmt.Errorf("the run was stopped because %w: %w", stopped, err)
	}
	return err
}

// shownFaults bounds the faults printed.
const shownFaults = 20

// Print writes the summary for people.
func (s Summary) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name string, value any, layout string, args ...any) {
		fmt.Fprintf(t, "%s\t%v\t%s\n", name, value, fmt.Sprintf(layout, args...))
	}
	fmt.Fprintf(w, "%d operations in %.1f s, of %d payloads from %s, seed %d\n", s.Submitted, s.Seconds, s.Payloads, s.Source, s.Seed)
	if s.Stopped != "" {
		fmt.Fprintf(w, "The run was stopped: %s.\n", s.Stopped)
	}
	fmt.Fprintln(w)
	row("submitted", s.Submitted, "%d more webhooks were taken at their first delivery", s.FirstTry)
	row("retrySuccess", s.RetrySuccess, "p50 %s, p99 %s after the first failure", milliseconds(s.TimeToSuccess.P50), milliseconds(s.TimeToSuccess.P99))
	row("retryFailed", s.RetryFailed, "%s", reasons(s.RetryFailedBy))
	row("dead letters", s.DeadLetters, "")
	row("redeliveries", s.Redeliveries, "attempts per operation: %d min, %d median, %d max", s.Attempts.Min, s.Attempts.Median, s.Attempts.Max)
	row("lateness", milliseconds(s.Lateness.P50), "p50; p99 %s, max %s, which includes being held; %d redeliveries were early",
		milliseconds(s.Lateness.P99), milliseconds(s.Lateness.Max), s.Early)
	row("released", s.ReleasedEarly, "before their time, because their breaker had closed")
	row("duplicates", s.Duplicates, "accepted by the target again because it had answered too late; %d needlessly", s.NeedlessDuplicates)
	if s.Unfinished > 0 {
		row("unfinished", s.Unfinished, "still wait, safe in their stream")
	}
	row("repeats", s.RepeatedAttempts, "attempts that reached the target twice")
	if len(s.Faults) == 0 {
		row("lost", 0, "one outcome each; successes arrived and failures are kept, byte for byte")
	} else {
		row("at fault", len(s.Faults), "operations, which did not end as they must:")
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("writing the summary: %w", err)
	}
	for i, f := range s.Faults {
		if i == shownFaults {
			fmt.Fprintf(w, "  and %d more\n", len(s.Faults)-i)
			break
		}
		fmt.Fprintf(w, "  %s  %s: %s\n", f.ID, f.Kind, f.Detail)
	}
	if s.Kept != "" {
		fmt.Fprintf(w, "\nThe store and the log are kept in %s. To look at them:\n%s", s.Kept, lookAt(s.Kept))
	}
	return nil
}

// lookAt returns commands for looking at a kept store.
func lookAt(dir string) string {
	names, subjects := events.Streams{}, events.Subjects{}
	return fmt.Sprintf(`  rebound serve --store-dir '%s' &
  nats stream subjects %s
  nats stream view %s --subject '%s'
  nats stream view %s
  rebound dead list
`, dir, names.Outcomes(), names.Outcomes(), subjects.Outcomes("", "", ""), names.Dead())
}

func reasons(n map[events.Reason]int) string {
	var words []string
	for _, reason := range slices.Sorted(maps.Keys(n)) {
		words = append(words, fmt.Sprintf("%s %d", reason, n[reason]))
	}
	return strings.Join(words, ", ")
}

// milliseconds formats a duration with about three digits.
func milliseconds(ms float64) string {
	d := events.Milliseconds(ms)
	switch {
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d >= time.Millisecond:
		return d.Round(100 * time.Microsecond).String()
	}
	return d.Round(time.Microsecond).String()
}
