package events

import (
	"fmt"
	"strings"

	"github.com/rebound-mq/rebound/internal/clip"
)

// DefaultPrefix is the first token of every subject of ours.
const DefaultPrefix = "retry"

// The names of the outcomes and of the other events, as they stand in
// subjects and in event types.
const (
	RetrySuccess   = "retrySuccess"
	RetryFailed    = "retryFailed"
	RetryScheduled = "retryScheduled"
	BreakerChanged = "breakerChanged"
	// BackpressureChanged is about no key; its subjects end in rebound.all.
	BackpressureChanged = "backpressureChanged"
)

// Subjects names every subject under one prefix. The zero value uses
// [DefaultPrefix]. It is a value and safe for concurrent use.
type Subjects struct {
	// Prefix is one subject token, "retry" when empty.
	Prefix string
}

func (s Subjects) prefix() string {
	if s.Prefix == "" {
		return DefaultPrefix
	}
	return s.Prefix
}

// Submit is where a service publishes an operation that failed.
func (s Subjects) Submit(service, operation string) string {
	return s.prefix() + ".submit." + service + "." + operation
}

// Submissions matches every [Subjects.Submit].
func (s Subjects) Submissions() string { return s.prefix() + ".submit.>" }

// Report is where a worker reports on an attempt of the key.
func (s Subjects) Report(service, operation string) string {
	return s.prefix() + ".report." + service + "." + operation
}

// Reports matches every [Subjects.Report], and what is published there by mistake.
func (s Subjects) Reports() string { return s.prefix() + ".report.>" }

// Parked is where the operation with this id waits until it is due.
func (s Subjects) Parked(p Priority, service, operation, id string) string {
	return s.prefix() + ".parked." + p.String() + "." + service + "." + operation + "." + id
}

// Due is where the same operation arrives when its delay is over.
func (s Subjects) Due(p Priority, service, operation, id string) string {
	return s.prefix() + ".due." + p.String() + "." + service + "." + operation + "." + id
}

// AllDue matches every [Subjects.Due], and what is published there by mistake.
func (s Subjects) AllDue() string { return s.prefix() + ".due.>" }

// DueOf matches every due operation of one priority.
func (s Subjects) DueOf(p Priority) string { return s.prefix() + ".due." + p.String() + ".>" }

// IsDue reports whether subject is one of [Subjects.Due].
func (s Subjects) IsDue(subject string) bool {
	return strings.HasPrefix(subject, s.prefix()+".due.")
}

// Held is where the same operation stands in its lane while the gate of its key
// is shut.
func (s Subjects) Held(p Priority, service, operation, id string) string {
	return s.prefix() + ".held." + p.String() + "." + service + "." + operation + "." + id
}

// Lane matches the operations of one lane.
func (s Subjects) Lane(p Priority, service, operation string) string {
	return s.Held(p, service, operation, "*")
}

// Lanes matches the held operations of one key, or of all keys when service and
// operation are empty.
func (s Subjects) Lanes(service, operation string) string {
	return s.prefix() + ".held.*." + orAny(service) + "." + orAny(operation) + ".*"
}

// AllHeld matches every held operation, and what is published there by mistake.
func (s Subjects) AllHeld() string { return s.prefix() + ".held.>" }

// SplitHeld reads service and operation type out of a [Subjects.Held] subject. ok is
// false when it is none.
func (s Subjects) SplitHeld(subject string) (service, operation string, ok bool) {
	rest, ok := strings.CutPrefix(subject, s.prefix()+".held.")
	tokens := strings.Split(rest, ".")
	if !ok || len(tokens) != 4 || CheckName(tokens[1]) != nil || CheckName(tokens[2]) != nil {
		return "", "", false
	}
	return tokens[1], tokens[2], true
}

// AllParked matches every [Subjects.Parked], and what is published there by mistake.
func (s Subjects) AllParked() string { return s.prefix() + ".parked.>" }

// ParkedOfKey matches the parked operations of one key and one priority.
func (s Subjects) ParkedOfKey(p Priority, service, operation string) string {
	return s.Parked(p, service, operation, "*")
}

// Release returns where a held operation goes when it is let out, and its
// [Subjects.Slot].
func (s Subjects) Release(held string) (due, slot string) {
	_, rest, _ := strings.Cut(strings.TrimPrefix(held, s.prefix()+"."), ".")
	_, operation, _ := strings.Cut(rest, ".")
	return s.prefix() + ".due." + rest, s.prefix() + ".*.*." + operation
}

// Slot matches the subjects on which one operation can stand in the stream
// that holds what waits, what is due and what is held. Its last sequence is the operation's
// version: whoever publishes a next state expects it unchanged.
func (s Subjects) Slot(service, operation, id string) string {
	return s.prefix() + ".*.*." + service + "." + operation + "." + id
}

// Outcome is where the outcome [RetrySuccess] or [RetryFailed] of an
// operation is published.
func (s Subjects) Outcome(name, service, operation string) string {
	return s.prefix() + ".outcome." + name + "." + service + "." + operation
}

// Outcomes matches outcomes; an empty name, service or operation matches any.
func (s Subjects) Outcomes(name, service, operation string) string {
	return s.Outcome(orAny(name), orAny(service), orAny(operation))
}

// AllOutcomes matches every [Subjects.Outcome], and what is published there by mistake.
func (s Subjects) AllOutcomes() string { return s.prefix() + ".outcome.>" }

// Event is where an event that is no outcome, such as [RetryScheduled], is
// published.
func (s Subjects) Event(name, service, operation string) string {
	return s.prefix() + ".event." + name + "." + service + "." + operation
}

// Events matches events that are no outcomes; an empty name, service or
// operation matches any.
func (s Subjects) Events(name, service, operation string) string {
	return s.Event(orAny(name), orAny(service), orAny(operation))
}

// AllEvents matches every [Subjects.Event], and what is published there by mistake.
func (s Subjects) AllEvents() string { return s.prefix() + ".event.>" }

// Dead is where the dead letter of an operation is kept.
func (s Subjects) Dead(service, operation, id string) string {
	return s.prefix() + ".dead." + service + "." + operation + "." + id
}

// AllDead matches every [Subjects.Dead], and what is published there by mistake.
func (s Subjects) AllDead() string { return s.prefix() + ".dead.>" }

// DeadLetters matches dead letters; an empty service, operation or id matches
// any.
func (s Subjects) DeadLetters(service, operation, id string) string {
	return s.Dead(orAny(service), orAny(operation), orAny(id))
}

// Health is where a service reports its own health. No stream stores it: what is
// late is of no use.
func (s Subjects) Health(service string) string { return s.prefix() + ".health." + service }

// HealthReports matches every [Subjects.Health], and what is published there by
// mistake.
func (s Subjects) HealthReports() string { return s.prefix() + ".health.>" }

// SplitHealth reads the service out of a [Subjects.Health] subject. The error says
// what is wrong with the subject.
func (s Subjects) SplitHealth(subject string) (service string, err error) {
	service, ok := strings.CutPrefix(subject, s.prefix()+".health.")
	if !ok {
		return "", fmt.Errorf("subject %q is not under %s.health", clip.Text(subject, 200), s.prefix())
	}
	if err := CheckName(service); err != nil {
		return "", fmt.Errorf("service in subject %w", err)
	}
	return service, nil
}

// Instance is where the instance with this id tells the others of itself. No
// stream stores it.
func (s Subjects) Instance(id string) string { return s.prefix() + ".instance." + id }

// Instances matches every [Subjects.Instance].
func (s Subjects) Instances() string { return s.Instance("*") }

// SplitInstance reads the id out of a [Subjects.Instance] subject. The error says
// what is wrong with the subject.
func (s Subjects) SplitInstance(subject string) (id string, err error) {
	id, ok := strings.CutPrefix(subject, s.Instance(""))
	if !ok {
		return "", fmt.Errorf("subject %q is not under %s.instance", clip.Text(subject, 200), s.prefix())
	}
	if err := CheckName(id); err != nil {
		return "", fmt.Errorf("id in subject %w", err)
	}
	return id, nil
}

// Advisory is where an instance stores that an adopted consumer gave a message
// up, when the stream of advisories missed it.
func (s Subjects) Advisory(stream, consumer string) string {
	return s.prefix() + ".advisory." + stream + "." + consumer
}

// Advisories matches every [Subjects.Advisory].
func (s Subjects) Advisories() string { return s.prefix() + ".advisory.>" }

// Work is the subject where a worker finds the operations of a key. It is the
// one place under the prefix that may be a target.
func (s Subjects) Work(service, operation string) string {
	return s.prefix() + ".work." + service + "." + operation
}

// Works matches every [Subjects.Work].
func (s Subjects) Works() string { return s.prefix() + ".work.>" }

// IsWork reports whether subject is under [Subjects.Works].
func (s Subjects) IsWork(subject string) bool {
	return strings.HasPrefix(subject, s.prefix()+".work.")
}

// SplitSubmit reads service and operation type out of a [Subjects.Submit]
// subject. The error says what is wrong with the subject.
func (s Subjects) SplitSubmit(subject string) (service, operation string, err error) {
	return s.split("submit", subject)
}

// SplitReport does the same with a [Subjects.Report] subject.
func (s Subjects) SplitReport(subject string) (service, operation string, err error) {
	return s.split("report", subject)
}

func (s Subjects) split(kind, subject string) (service, operation string, err error) {
	under := s.prefix() + "." + kind
	rest, ok := strings.CutPrefix(subject, under+".")
	if !ok {
		return "", "", fmt.Errorf("subject %q is not under %s", clip.Text(subject, 200), under)
	}
	tokens := strings.Split(rest, ".")
	if len(tokens) != 2 {
		return "", "", fmt.Errorf("subject %q has %d tokens after %s; it needs two, the service and the operation type",
			clip.Text(subject, 200), len(tokens), under)
	}
	for i, what := range []string{"service", "operation type"} {
		if err := CheckName(tokens[i]); err != nil {
			return "", "", fmt.Errorf("%s in subject %w", what, err)
		}
	}
	return tokens[0], tokens[1], nil
}

// CheckTarget reports whether subject may be a target at all: a literal
// subject of at most 255 bytes that belongs neither to the server, nor to an
// inbox, nor to Rebound itself. The allow-list of a policy comes on top.
func (s Subjects) CheckTarget(subject string) error {
	shown := clip.Text(subject, 80)
	switch {
	case subject == "":
		return fmt.Errorf("target is empty")
	case len(subject) > 255:
		return fmt.Errorf("target has %d bytes, more than the 255 allowed", len(subject))
	}
	for _, r := range subject {
		if r <= ' ' || r == 0x7f {
			return fmt.Errorf("target %q has a space or a control character", shown)
		}
	}
	tokens := strings.Split(subject, ".")
	for _, token := range tokens {
		switch token {
		case "":
			return fmt.Errorf("target %q has an empty token", shown)
		case "*", ">":
			return fmt.Errorf("target %q has a wildcard", shown)
		}
	}
	switch first := tokens[0]; {
	case first[0] == '$':
		return fmt.Errorf("target %q belongs to the server; subjects that start with $ are never targets", shown)
	case first == "_INBOX" || strings.HasPrefix(first, "_INBOX_"):
		return fmt.Errorf("target %q is an inbox; inboxes are never targets", shown)
	case first == "rebound", first == s.prefix() && (len(tokens) < 2 || tokens[1] != "work"):
		return fmt.Errorf("target %q belongs to Rebound itself", shown)
	}
	return nil
}

func orAny(token string) string {
	if token == "" {
		return "*"
	}
	return token
}
