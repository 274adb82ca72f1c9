package events

import (
	"strings"
	"time"
)

// Streams names the streams and buckets under one prefix. The zero value uses [DefaultPrefix]. It
// is safe for concurrent use.
type Streams struct {
	// Prefix is the subjects' prefix; names of streams have it in upper case.
	Prefix string
}

func (s Streams) name(suffix string) string {
	return strings.ToUpper(Subjects(s).prefix()) + suffix
}

// Intake holds what services send: submissions and reports.
func (s Streams) Intake() string { return s.name("_INTAKE") }

// Waiting holds the parked, due and held operations.
func (s Streams) Waiting() string { return s.name("") }

// LanesBucket is the key-value bucket of the keys whose lanes may hold operations.
func (s Streams) LanesBucket() string { return s.name("_LANES") }

// PausesBucket is the key-value bucket of what operators have paused.
func (s Streams) PausesBucket() string { return s.name("_PAUSES") }

// BreakersBucket is the key-value bucket of the circuit breakers.
func (s Streams) BreakersBucket() string { return s.name("_BREAKERS") }

// LedgersBucket is the key-value bucket in which the instances share the limits of keys.
func (s Streams) LedgersBucket() string { return s.name("_LEDGERS") }

// Outcomes holds the outcomes and the other events.
func (s Streams) Outcomes() string { return s.name("_OUTCOMES") }

// Dead holds the dead letters.
func (s Streams) Dead() string { return s.name("_DEAD") }

// Advisories holds JetStream's advisories about messages that adopted consumers gave up. It is
// created when the first consumer is adopted.
func (s Streams) Advisories() string { return s.name("_ADVISORIES") }

// Work holds operations for workers, unless a stream of the user captures them. It is created on
// first use.
func (s Streams) Work() string { return s.name("_WORK") }

// DedupWindow is how long a stream remembers a message id.
const DedupWindow = 2 * time.Minute
