package events

import (
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
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

// StreamLimits are the limits that an operator may set. Zero means none.
type StreamLimits struct {
	// Replicas is how many servers of a cluster store each stream; 0 means 1.
	Replicas int
	// MaxSubmitted is how many submissions of one service may wait to be taken in.
	MaxSubmitted int64
	// OutcomesMaxAge and OutcomesMaxBytes bound what happened.
	OutcomesMaxAge   time.Duration
	OutcomesMaxBytes int64
	// DeadMaxAge bounds how long a dead letter is kept.
	DeadMaxAge time.Duration
}

// Configs returns the configuration of every stream, in the order in which
// they are made.
//
// The stream of what waits cannot discard new messages: the server refuses
// that together with message schedules. It has no limit of its own instead, so
// that nothing in it is ever discarded; a full account refuses the publish.
func (s Streams) Configs(limits StreamLimits) []jetstream.StreamConfig {
	p := Subjects(s).prefix()
	replicas := max(limits.Replicas, 1)
	kept := func(name, description string, subjects ...string) jetstream.StreamConfig {
		c := queue(name, description, replicas, subjects...)
		c.Retention, c.Discard = jetstream.LimitsPolicy, jetstream.DiscardOld
		return c
	}

	intake := queue(s.Intake(), "Rebound: what services say", replicas, p+".submit.>", p+".report.>")
	if limits.MaxSubmitted > 0 {
		intake.MaxMsgsPerSubject, intake.DiscardNewPerSubject = limits.MaxSubmitted, true
	}

	waiting := queue(s.Waiting(), "Rebound: operations that wait for their time or their gate", replicas, p+".parked.>", p+".due.>", p+".held.>")
	waiting.Discard = jetstream.DiscardOld
	waiting.AllowMsgSchedules, waiting.AllowMsgTTL, waiting.AllowRollup = true, true, true

	outcomes := kept(s.Outcomes(), "Rebound: what happened to operations", p+".outcome.>", p+".event.>")
	outcomes.MaxAge = limits.OutcomesMaxAge
	outcomes.MaxBytes = limits.OutcomesMaxBytes

	dead := kept(s.Dead(), "Rebound: dead letters", p+".dead.>")
	dead.MaxMsgsPerSubject = 1
	dead.MaxAge = limits.DeadMaxAge

	return []jetstream.StreamConfig{intake, waiting, outcomes, dead}
}

// WorkConfig returns the configuration of [Streams.Work].
func (s Streams) WorkConfig(limits StreamLimits) jetstream.StreamConfig {
	return queue(s.Work(), "Rebound: what workers are to do", max(limits.Replicas, 1), Subjects(s).Works())
}

// queue returns the configuration of a work queue.
func queue(name, description string, replicas int, subjects ...string) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: name, Description: description, Subjects: subjects,
		Retention: jetstream.WorkQueuePolicy, Discard: jetstream.DiscardNew,
		Storage: jetstream.FileStorage, Replicas: replicas,
		Duplicates: DedupWindow, AllowDirect: true,
	}
}
