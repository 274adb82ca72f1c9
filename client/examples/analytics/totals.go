package main

import (
	"fmt"
	"time"

	"github.com/rebound-mq/rebound/client"
	"github.com/rebound-mq/rebound/events"
)

// Totals are the counts and the position up to which outcomes are counted.
type Totals struct {
	// Counted is the sequence of the last counted outcome.
	Counted uint64 `json:"counted"`
	// Groups are the totals by service and campaign, see groupOf.
	Groups map[string]Total `json:"groups"`
}

// Total is the count of one group.
type Total struct {
	Successes int `json:"successes"`
	Failures  int `json:"failures"`
	// Attempts is the sum of the attempts of all operations, SuccessMs the sum of the
	// milliseconds from first failure to success of the successful ones.
	Attempts  int     `json:"attempts"`
	SuccessMs float64 `json:"successMs"`
}

// groupOf returns the group of an outcome: its service and, after a slash, its
// campaign if there is one.
func groupOf(o client.Outcome) string {
	if o.Campaign == "" {
		return o.Service
	}
	return o.Service + "/" + o.Campaign
}

// rest selects the outcomes that are not yet counted.
func (t *Totals) rest() client.OutcomeFilter {
	return client.OutcomeFilter{Since: time.Unix(1, 0), After: t.Counted}
}

// add counts an outcome.
func (t *Totals) add(o client.Outcome) {
	total := t.Groups[groupOf(o)]
	total.Attempts += o.Attempts
	if o.Succeeded() {
		total.Successes++
		total.SuccessMs += o.ElapsedMs
	} else {
		total.Failures++
	}
	t.Groups[groupOf(o)] = total
	t.Counted = o.Sequence
}

// String returns the total as one line: the success rate, the mean number of attempts, and the
// mean time to success.
func (t Total) String() string {
	n := t.Successes + t.Failures
	line := fmt.Sprintf("%d of %d retried with success, %.1f attempts each", t.Successes, n, float64(t.Attempts)/float64(n))
	if t.Successes > 0 {
		line += fmt.Sprintf(", in %s", events.Milliseconds(t.SuccessMs/float64(t.Successes)).Round(time.Millisecond))
	}
	return line
}
