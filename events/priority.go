package events

import "fmt"

// Priority ranks the operations of a key, [Critical] first. The zero value is [Normal].
type Priority uint8

// The priorities, in the order of the original design's ConnectionPriority.
const (
	Normal Priority = iota
	Critical
	High
	Low
)

// Priorities lists every priority, the most urgent first.
var Priorities = [...]Priority{Critical, High, Normal, Low}

// String returns the name of p in attributes and subjects.
func (p Priority) String() string {
	switch p {
	case Critical:
		return "critical"
	case High:
		return "high"
	case Low:
		return "low"
	default:
		return "normal"
	}
}

// ParsePriority parses one of critical, high, normal, low. The empty string is [Normal]. The
// error for any other text lists the accepted ones.
func ParsePriority(s string) (Priority, error) {
	switch s {
	case "critical":
		return Critical, nil
	case "high":
		return High, nil
	case "", "normal":
		return Normal, nil
	case "low":
		return Low, nil
	}
	return Normal, fmt.Errorf("priority %q is none of critical, high, normal, low", s)
}

// MarshalText implements [encoding.TextMarshaler].
func (p Priority) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler]. It accepts what [ParsePriority] accepts.
func (p *Priority) UnmarshalText(b []byte) error {
	v, err := ParsePriority(string(b))
	if err != nil {
		return err
	}
	*p = v
	return nil
}
