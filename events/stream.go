package events

import (
	"strings"
	"time"
)

// Streams names the streams under one prefix. The zero value uses
// [DefaultPrefix].
type Streams struct {
	// Prefix is the subjects' prefix; the streams bear it in upper case.
	Prefix string
}

func (s Streams) name(suffix string) string {
	return strings.ToUpper(Subjects(s).prefix()) + suffix
}

// Intake holds what services say: submissions and reports.
func (s Streams) Intake() string { return s.name("_INTAKE") }

// Waiting holds what waits for its time, what is due, and the lanes: what waits
// for its gate.
func (s Streams) Waiting() string { return s.name("") }

// LanesBucket is the key-value bucket that names the keys whose lanes may hold
// operations.
func (s Streams) LanesBucket() string { return s.name("_LANES") }

// BreakersBucket is the key-value bucket of the circuit breakers.
func (s Streams) BreakersBucket() string { return s.name("_BREAKERS") }

// LedgersBucket is the key-value bucket in which the instances share the limits
// of keys.
func (s Streams) LedgersBucket() string { return s.name("_LEDGERS") }

// Outcomes holds what happened.
func (s Streams) Outcomes() string { return s.name("_OUTCOMES") }

// Dead holds the dead letters.
func (s Streams) Dead() string { return s.name("_DEAD") }

// Advisories holds what JetStream says of messages that adopted consumers gave
// up. It is made when the first consumer is adopted.
func (s Streams) Advisories() string { return s.name("_ADVISORIES") }

// Work holds what workers are to do, unless a stream of the user's does. It is
// made when it is needed first.
func (s Streams) Work() string { return s.name("_WORK") }

// DedupWindow is how long a stream remembers a message id.
const DedupWindow = 2 * time.Minute
