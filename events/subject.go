package events

import (
	"fmt"
	"strings"

	"github.com/rebound-mq/rebound/internal/clip"
)

// DefaultPrefix is the first token of Rebound's subjects by default.
const DefaultPrefix = "retry"

// The names of the events, as in subjects and event types. [RetrySuccess] and [RetryFailed] are
// outcomes.
const (
	RetrySuccess   = "retrySuccess"
	RetryFailed    = "retryFailed"
	RetryScheduled = "retryScheduled"
	BreakerChanged = "breakerChanged"
	// BackpressureChanged concerns all keys; its subject ends in rebound.all.
	BackpressureChanged = "backpressureChanged"
)

// Subjects names every subject under one prefix. The zero value uses [DefaultPrefix]. It is safe
// for concurrent use.
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

// apiRoot is the first token of the endpoints under [DefaultPrefix].
const apiRoot = "rebound"

// API returns the first token of the endpoints of a deployment and the name of its micro service:
// rebound under [DefaultPrefix], rebound-<prefix> under another one. Two deployments in one account
// therefore never answer each other.
func (s Subjects) API() string {
	if s.prefix() == DefaultPrefix {
		return apiRoot
	}
	return apiRoot + "-" + s.prefix()
}

// isAPI reports whether token is the [Subjects.API] of some deployment.
func isAPI(token string) bool {
	return token == apiRoot || strings.HasPrefix(token, apiRoot+"-")
}

// Endpoint is the subject of an endpoint of the service, such as dead.list.
func (s Subjects) Endpoint(name string) string { return s.API() + "." + name }

// Submit is where a service publishes a failed operation.
func (s Subjects) Submit(service, operation string) string {
	return s.prefix() + ".submit." + service + "." + operation
}

// Submissions matches every [Subjects.Submit].
func (s Subjects) Submissions() string { return s.prefix() + ".submit.>" }

// Report is where a worker reports on an attempt of the key.
func (s Subjects) Report(service, operation string) string {
	return s.prefix() + ".report." + service + "." + operation
}

// Reports matches every [Subjects.Report], and anything published under it by mistake.
func (s Subjects) Reports() string { return s.prefix() + ".report.>" }

// Parked is where an operation waits until it is due.
func (s Subjects) Parked(p Priority, service, operation, id string) string {
	return s.prefix() + ".parked." + p.String() + "." + service + "." + operation + "." + id
}

// Due is where an operation arrives when its delay is over.
func (s Subjects) Due(p Priority, service, operation, id string) string {
	return s.prefix() + ".due." + p.String() + "." + service + "." + operation + "." + id
}

// AllDue matches every [Subjects.Due], and anything published under it by mistake.
func (s Subjects) AllDue() string { return s.prefix() + ".due.>" }

// DueOf matches every due operation of one priority.
func (s Subjects) DueOf(p Priority) string { return s.prefix() + ".due." + p.String() + ".>" }

// IsDue reports whether subject is a [Subjects.Due].
func (s Subjects) IsDue(subject string) bool {
	return strings.HasPrefix(subject, s.prefix()+".due.")
}

// Held is where an operation stands in its lane while the gate of its key is shut.
func (s Subjects) Held(p Priority, service, operation, id string) string {
	return s.prefix() + ".held." + p.String() + "." + service + "." + operation + "." + id
}

// Lane matches the operations of one lane.
func (s Subjects) Lane(p Priority, service, operation string) string {
	return s.Held(p, service, operation, "*")
}

// Lanes matches the held operations of a key; an empty service or operation matches any.
func (s Subjects) Lanes(service, operation string) string {
	return s.prefix() + ".held.*." + orAny(service) + "." + orAny(operation) + ".*"
}

// AllHeld matches every [Subjects.Held], and anything published under it by mistake.
func (s Subjects) AllHeld() string { return s.prefix() + ".held.>" }

// SplitHeld returns the service and operation type of a [Subjects.Held]; ok is false if subject
// is not one.
func (s Subjects) SplitHeld(subject string) (service, operation string, ok bool) {
	rest, ok := strings.CutPrefix(subject, s.prefix()+".held.")
	tokens := strings.Split(rest, ".")
	if !ok || len(tokens) != 4 || CheckName(tokens[1]) != nil || CheckName(tokens[2]) != nil {
		return "", "", false
	}
	return tokens[1], tokens[2], true
}

// Probe is where an instance finds out whether anything can be stored. It is a subject of the
// waiting operations, but of none.
func (s Subjects) Probe() string { return s.prefix() + ".parked.probe" }

// AllParked matches every [Subjects.Parked], and anything published under it by mistake.
func (s Subjects) AllParked() string { return s.prefix() + ".parked.>" }

// ParkedOfKey matches the parked operations of one key and one priority.
func (s Subjects) ParkedOfKey(p Priority, service, operation string) string {
	return s.Parked(p, service, operation, "*")
}

// Release returns the subject to which a held operation is released, and its [Subjects.Slot].
func (s Subjects) Release(held string) (due, slot string) {
	_, rest, _ := strings.Cut(strings.TrimPrefix(held, s.prefix()+"."), ".")
	_, operation, _ := strings.Cut(rest, ".")
	return s.prefix() + ".due." + rest, s.prefix() + ".*.*." + operation
}

// Slot matches the subjects on which one operation can stand in the stream of waiting operations.
// The last sequence under it is the operation's version: whoever publishes the next state expects
// it to be unchanged.
func (s Subjects) Slot(service, operation, id string) string {
	return s.prefix() + ".*.*." + service + "." + operation + "." + id
}

// Outcome is where the outcome of an operation is published, [RetrySuccess] or [RetryFailed].
func (s Subjects) Outcome(name, service, operation string) string {
	return s.prefix() + ".outcome." + name + "." + service + "." + operation
}

// Outcomes matches outcomes; an empty name, service or operation matches any.
func (s Subjects) Outcomes(name, service, operation string) string {
	return s.Outcome(orAny(name), orAny(service), orAny(operation))
}

// AllOutcomes matches every [Subjects.Outcome], and anything published under it by mistake.
func (s Subjects) AllOutcomes() string { return s.prefix() + ".outcome.>" }

// Event is where an event other than an outcome is published, such as [RetryScheduled].
func (s Subjects) Event(name, service, operation string) string {
	return s.prefix() + ".event." + name + "." + service + "." + operation
}

// Events matches events other than outcomes; an empty name, service or operation matches any.
func (s Subjects) Events(name, service, operation string) string {
	return s.Event(orAny(name), orAny(service), orAny(operation))
}

// AllEvents matches every [Subjects.Event], and anything published under it by mistake.
func (s Subjects) AllEvents() string { return s.prefix() + ".event.>" }

// Dead is where the dead letter of an operation is kept.
func (s Subjects) Dead(service, operation, id string) string {
	return s.prefix() + ".dead." + service + "." + operation + "." + id
}

// AllDead matches every [Subjects.Dead], and anything published under it by mistake.
func (s Subjects) AllDead() string { return s.prefix() + ".dead.>" }

// DeadLetters matches dead letters; an empty service, operation or id matches any.
func (s Subjects) DeadLetters(service, operation, id string) string {
	return s.Dead(orAny(service), orAny(operation), orAny(id))
}

// Health is where a service reports its own health. No stream stores it, because a late report is
// useless.
func (s Subjects) Health(service string) string { return s.prefix() + ".health." + service }

// HealthReports matches every [Subjects.Health], and anything published under it by mistake.
func (s Subjects) HealthReports() string { return s.prefix() + ".health.>" }

// SplitHealth returns the service of a [Subjects.Health]. The error says what is wrong with the
// subject.
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

// Instance is where the instance with this id reports to the others. No stream stores it.
func (s Subjects) Instance(id string) string { return s.prefix() + ".instance." + id }

// Instances matches every [Subjects.Instance].
func (s Subjects) Instances() string { return s.Instance("*") }

// SplitInstance returns the id of a [Subjects.Instance]. The error says what is wrong with the
// subject.
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

// Advisory is where an instance stores an advisory about a message that an adopted consumer gave
// up, if the stream of advisories missed it.
func (s Subjects) Advisory(stream, consumer string) string {
	return s.prefix() + ".advisory." + stream + "." + consumer
}

// Advisories matches every [Subjects.Advisory].
func (s Subjects) Advisories() string { return s.prefix() + ".advisory.>" }

// Work is where a worker finds the operations of a key by default. Of all subjects under the
// prefix, only these may be targets.
func (s Subjects) Work(service, operation string) string {
	return s.prefix() + ".work." + service + "." + operation
}

// Works matches every [Subjects.Work].
func (s Subjects) Works() string { return s.prefix() + ".work.>" }

// IsWork reports whether subject is under [Subjects.Works].
func (s Subjects) IsWork(subject string) bool {
	return strings.HasPrefix(subject, s.prefix()+".work.")
}

// SplitSubmit returns the service and operation type of a [Subjects.Submit]. The error says what
// is wrong with the subject.
func (s Subjects) SplitSubmit(subject string) (service, operation string, err error) {
	return s.split("submit", subject)
}

// SplitReport does the same for a [Subjects.Report].
func (s Subjects) SplitReport(subject string) (service, operation string, err error) {
	return s.split("report", subject)
}

func (s Subjects) split(kind, subject string) (service, operation string, err error) {
	rest, ok := strings.CutPrefix(subject, s.prefix())
	if ok {
		rest, ok = strings.CutPrefix(rest, ".")
	}
	if ok {
		rest, ok = strings.CutPrefix(rest, kind)
	}
	if ok {
		rest, ok = strings.CutPrefix(rest, ".")
	}
	if !ok {
		return "", "", fmt.Errorf("subject %q is not under %s.%s", clip.Text(subject, 200), s.prefix(), kind)
	}
	if tokens := strings.Count(rest, ".") + 1; tokens != 2 {
		return "", "", fmt.Errorf("subject %q has %d tokens after %s.%s; it needs two, the service and the operation type",
			clip.Text(subject, 200), tokens, s.prefix(), kind)
	}
	service, operation, _ = strings.Cut(rest, ".")
	if err := CheckName(service); err != nil {
		return "", "", fmt.Errorf("service in subject %w", err)
	}
	if err := CheckName(operation); err != nil {
		return "", "", fmt.Errorf("operation type in subject %w", err)
	}
	return service, operation, nil
}

// CheckTarget returns an error unless subject may be a target: a literal subject of at most 255
// bytes that belongs neither to the server nor to an inbox nor to Rebound. A policy's allow-list
// applies in addition.
func (s Subjects) CheckTarget(subject string) error {
	switch {
	case subject == "":
		return fmt.Errorf("target is empty")
	case len(subject) > 255:
		return fmt.Errorf("target has %d bytes, more than the 255 allowed", len(subject))
	}
	for _, r := range subject {
		if r <= ' ' || r == 0x7f {
			return notTarget(subject, "has a space or a control character")
		}
	}
	for token := range strings.SplitSeq(subject, ".") {
		switch token {
		case "":
			return notTarget(subject, "has an empty token")
		case "*", ">":
			return notTarget(subject, "has a wildcard")
		}
	}
	switch first, rest, _ := strings.Cut(subject, "."); {
	case first[0] == '$':
		return notTarget(subject, "belongs to the server; subjects that start with $ are never targets")
	case first == "_INBOX" || strings.HasPrefix(first, "_INBOX_"):
		return notTarget(subject, "is an inbox; inboxes are never targets")
	case isAPI(first), first == s.prefix() && rest != "work" && !strings.HasPrefix(rest, "work."):
		return notTarget(subject, "belongs to Rebound itself")
	}
	return nil
}

func notTarget(subject, why string) error {
	return fmt.Errorf("target %q %s", clip.Text(subject, 80), why)
}

func orAny(token string) string {
	if token == "" {
		return "*"
	}
	return token
}
