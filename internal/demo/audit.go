package demo

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/deadletter"
	"github.com/rebound-mq/rebound/internal/streams"
)

// evidence is what is known of one operation after the run.
type evidence struct {
	// Submitted reports whether the demo submitted it, with Payload.
	Submitted bool
	Payload   hash
	// Outcomes are the names of the operation's outcome events.
	Outcomes []string
	// Dead has the payload of each of its dead letters, Accepted that of each delivery which the
	// target accepted.
	Dead, Accepted []hash
	// Waiting reports whether the operation is still stored as waiting.
	Waiting bool
}

// Kind is the kind of a fault.
type Kind string

// The kinds of faults.
const (
	// Lost: the operation has no outcome and is not waiting.
	Lost Kind = "lost"
	// Doubled: the operation has more than one outcome or dead letter, or a dead
	// letter although it succeeded.
	Doubled Kind = "doubled"
	// Undelivered: the operation succeeded, but its target never accepted it.
	Undelivered Kind = "undelivered"
	// Mismatched: the target or the dead letter got other bytes than were submitted.
	Mismatched Kind = "mismatched"
	// Unburied: the operation failed but has no dead letter.
	Unburied Kind = "unburied"
	// Foreign: an operation that nobody submitted has an outcome or a dead letter.
	Foreign Kind = "foreign"
)

// Fault is an operation that did not end as it must.
type Fault struct {
	ID     string `json:"id"`
	Kind   Kind   `json:"kind"`
	Detail string `json:"detail"`
}

// judge returns the faults, sorted by operation id, and how many operations have no outcome
// because they are still waiting.
func judge(all map[string]*evidence) (found []Fault, unfinished int) {
	for _, id := range slices.Sorted(maps.Keys(all)) {
		e := all[id]
		for _, f := range e.faults() {
			f.ID = id
			found = append(found, f)
		}
		if e.unfinished() {
			unfinished++
		}
	}
	return found, unfinished
}

func (e *evidence) unfinished() bool { return e.Submitted && e.Waiting && len(e.Outcomes) == 0 }

// faults returns the faults of one operation.
func (e *evidence) faults() (out []Fault) {
	add := func(kind Kind, layout string, args ...any) {
		out = append(out, Fault{Kind: kind, Detail: fmt.Sprintf(layout, args...)})
	}
	if !e.Submitted {
		add(Foreign, "nobody submitted it, but it has %d outcomes and %d dead letters", len(e.Outcomes), len(e.Dead))
		return out
	}
	for _, p := range slices.Concat(e.Accepted, e.Dead) {
		if p != e.Payload {
			add(Mismatched, "submitted was a payload with SHA-256 %x, but it came back with %x", e.Payload[:6], p[:6])
		}
	}
	switch {
	case e.unfinished():
		return out
	case len(e.Outcomes) == 0:
		add(Lost, "it has no outcome and waits nowhere")
		return out
	case len(e.Outcomes) > 1:
		add(Doubled, "it has %d outcomes: %s", len(e.Outcomes), strings.Join(e.Outcomes, ", "))
	case e.Outcomes[0] == events.RetrySuccess && len(e.Accepted) == 0:
		add(Undelivered, "its outcome is %s, but the target never accepted it", events.RetrySuccess)
	case e.Outcomes[0] == events.RetryFailed && len(e.Dead) == 0:
		add(Unburied, "its outcome is %s, but it has no dead letter", events.RetryFailed)
	}
	switch {
	case len(e.Dead) > 1:
		add(Doubled, "it has %d dead letters", len(e.Dead))
	case len(e.Dead) == 1 && !slices.Contains(e.Outcomes, events.RetryFailed):
		add(Doubled, "it has a dead letter, but no outcome %s", events.RetryFailed)
	}
	return out
}

// FaultsError means that operations did not end as they must.
type FaultsError struct{ Faults []Fault }

// Error implements error.
func (e *FaultsError) Error() string {
	n := make(map[Kind]int)
	for _, f := range e.Faults {
		n[f.Kind]++
	}
	kinds := slices.SortedFunc(maps.Keys(n), func(a, b Kind) int { return cmp.Or(n[b]-n[a], cmp.Compare(a, b)) })
	words := make([]string, len(kinds))
	for i, k := range kinds {
		words[i] = fmt.Sprintf("%d %s", n[k], k)
	}
	return "not every operation ended as it must: " + strings.Join(words, ", ")
}

// gather adds the evidence in the streams, and returns the number of dead letters.
func gather(ctx context.Context, js jetstream.JetStream, all map[string]*evidence) (dead int, err error) {
	g := gathering{all: all}
	if err := g.outcomes(ctx, js); err != nil {
		return 0, err
	}
	if dead, err = g.deadLetters(ctx, js); err != nil {
		return 0, err
	}
	return dead, g.waiting(ctx, js)
}

// gathering collects evidence by operation id.
type gathering struct{ all map[string]*evidence }

func (g gathering) of(id string) *evidence {
	if g.all[id] == nil {
		g.all[id] = &evidence{}
	}
	return g.all[id]
}

func (g gathering) outcomes(ctx context.Context, js jetstream.JetStream) error {
	subjects, names := events.Subjects{}, events.Streams{}
	for m, err := range streams.Scan(ctx, js, names.Outcomes(), subjects.Outcomes("", "", ""), jetstreamext.GetBatchSeq(1)) {
		if err != nil {
			return fmt.Errorf("reading the outcomes: %w", err)
		}
		var outcome events.Outcome
		if err := json.Unmarshal(m.Data, &outcome); err != nil {
			return fmt.Errorf("reading the outcome at %s: %w", m.Subject, err)
		}
		e := g.of(outcome.ID)
		e.Outcomes = append(e.Outcomes, outcome.Outcome)
	}
	return nil
}

// deadLetters returns their number.
func (g gathering) deadLetters(ctx context.Context, js jetstream.JetStream) (n int, err error) {
	for d, err := range deadletter.New(js, "").List(ctx, events.DeadLetterFilter{}) {
		if err != nil {
			return 0, err
		}
		e := g.of(d.ID)
		e.Dead = append(e.Dead, sha256.Sum256(d.Data))
		n++
	}
	return n, nil
}

// waiting collects the operations that wait, including submissions not yet taken in.
func (g gathering) waiting(ctx context.Context, js jetstream.JetStream) error {
	subjects, names := events.Subjects{}, events.Streams{}
	from := jetstreamext.GetBatchSeq(1)
	for m, err := range streams.Scan(ctx, js, names.Waiting(), ">", from) {
		if err != nil {
			return fmt.Errorf("reading the waiting operations: %w", err)
		}
		tokens := strings.Split(m.Subject, ".")
		g.of(tokens[len(tokens)-1]).Waiting = true
	}
	for m, err := range streams.Scan(ctx, js, names.Intake(), subjects.Submissions(), from) {
		if err != nil {
			return fmt.Errorf("reading the submissions: %w", err)
		}
		g.of(operationID(m.Header.Get(headerDelivery), m.Header.Get(headerEvent))).Waiting = true
	}
	return nil
}
