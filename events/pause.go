package events

import (
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/rebound-mq/rebound/internal/clip"
)

// PauseChanged is the name of the event of a [PauseChange]. Its subject ends in rebound.all.
const PauseChanged = "pauseChanged"

// Bounds of a pause.
const (
	// MaxPauses bounds the pauses of a deployment.
	MaxPauses = 1000
	// MaxPauseNote and MaxOperator bound a note and an operator's name, in bytes.
	MaxPauseNote = 500
	MaxOperator  = 128
	// LongestPause bounds the time of a pause that ends by itself.
	LongestPause = 10 * 365 * 24 * time.Hour
)

// Pause is an operator's word that nothing of the matching keys goes to its target, whatever else
// says so.
type Pause struct {
	Pattern Pattern `json:"pattern"`
	// By is the operator's name, Note the reason. Either may be empty.
	By   string `json:"by,omitempty"`
	Note string `json:"note,omitempty"`
	// At is when it began, and Until when it ends by itself; zero for never.
	At    time.Time `json:"at"`
	Until time.Time `json:"until,omitzero"`
}

// Ended reports whether the pause has ended by itself.
func (p *Pause) Ended(now time.Time) bool { return !p.Until.IsZero() && !now.Before(p.Until) }

// CheckOperator returns an error unless by and note may be an operator's name and reason.
func CheckOperator(by, note string) error {
	switch {
	case len(by) > MaxOperator:
		return fmt.Errorf("the operator's name has %d bytes, more than the %d allowed", len(by), MaxOperator)
	case len(note) > MaxPauseNote:
		return fmt.Errorf("the note has %d bytes, more than the %d allowed", len(note), MaxPauseNote)
	}
	return nil
}

// PauseChange is the data of rebound.pauseChanged.v1: a pause began, or ended.
type PauseChange struct {
	Pattern Pattern `json:"pattern"`
	Paused  bool    `json:"paused"`
	// Cause is one of the causes below.
	Cause string `json:"cause"`
	// By and Note are those of the operator who made the change. They are empty if the pause
	// ended by itself.
	By   string    `json:"by,omitempty"`
	Note string    `json:"note,omitempty"`
	At   time.Time `json:"at"`
	// Until is when a pause that began will end by itself; zero for never.
	Until time.Time `json:"until,omitzero"`
}

// The causes of a [PauseChange].
const (
	CausePaused  = "paused"
	CauseResumed = "resumed"
	CauseExpired = "expired"
)

// PauseChanges is the subject on which [PauseChanged] is published.
func (s Subjects) PauseChanges() string {
	return s.Event(PauseChanged, AboutAll.Service, AboutAll.Operation)
}

// Pattern matches keys. The zero value matches none.
type Pattern struct{ service, operation string }

// ParsePattern reads a key (billing:charge), a service (billing, all of its keys), or either with
// wildcards: an asterisk stands for any number of characters, within the service or within the
// operation type. A lone asterisk matches all keys.
func ParsePattern(s string) (Pattern, error) {
	service, operation, keyed := strings.Cut(s, ":")
	if !keyed {
		operation = "*"
	}
	for i, part := range []string{service, operation} {
		// An asterisk may stand for the first character or for none.
		if err := CheckName(strings.ReplaceAll(part, "*", "_")); err != nil {
			what := []string{"service", "operation type"}[i]
			if part == "" {
				return Pattern{}, fmt.Errorf("pattern %q has an empty %s; %s", clip.Text(s, 80), what, patternHint)
			}
			return Pattern{}, fmt.Errorf("the %s of pattern %q is none: it may have letters, digits, dashes, underscores and asterisks, no dash first, up to %d; %s", what, clip.Text(s, 200), MaxName, patternHint)
		}
	}
	return Pattern{service: single(service), operation: single(operation)}, nil
}

const patternHint = "a pattern is a key (billing:charge), a service (billing), or either with asterisks (bill*:*)"

// single makes every run of asterisks one.
func single(part string) string {
	for strings.Contains(part, "**") {
		part = strings.ReplaceAll(part, "**", "*")
	}
	return part
}

// Matches reports whether the pattern matches the key of a service and an operation type.
func (p Pattern) Matches(service, operation string) bool {
	return matches(p.service, service) && matches(p.operation, operation)
}

// matches reports whether a part of a pattern, which has no special characters but asterisks,
// matches a name.
func matches(part, name string) bool {
	if part == "*" || part == name {
		return part != ""
	}
	ok, err := path.Match(part, name)
	return err == nil && ok
}

// Covers reports whether the pattern matches every key that o matches, for a pattern o without
// wildcards within its parts.
func (p Pattern) Covers(o Pattern) bool {
	return covers(p.service, o.service) && covers(p.operation, o.operation)
}

func covers(part, other string) bool {
	if part == other || part == "*" {
		return part != ""
	}
	return !strings.Contains(other, "*") && matches(part, other)
}

// Literal returns the service and the operation type that the pattern names without a wildcard;
// the operation type is empty for all of a service. ok is false if the pattern has wildcards.
func (p Pattern) Literal() (service, operation string, ok bool) {
	operation = p.operation
	if operation == "*" {
		operation = ""
	}
	return p.service, operation, p.service != "" && !strings.Contains(p.service+operation, "*")
}

// String returns the shortest text of the pattern, by which patterns are the same or not.
func (p Pattern) String() string {
	if p.operation == "*" || p.operation == "" {
		return p.service
	}
	return p.service + ":" + p.operation
}

// MarshalText implements [encoding.TextMarshaler].
func (p Pattern) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler]. The error is that of [ParsePattern].
func (p *Pattern) UnmarshalText(text []byte) (err error) {
	*p, err = ParsePattern(string(text))
	return err
}
