package streams

import (
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/events"
)

// Limits are the limits that an operator may set. Zero means none.
type Limits struct {
	// Replicas is how many servers of a cluster store each stream; 0 means 1.
	Replicas int
	// MaxSubmitted bounds the waiting submissions of one service.
	MaxSubmitted int64
	// OutcomesMaxAge and OutcomesMaxBytes bound the stream of outcomes.
	OutcomesMaxAge   time.Duration
	OutcomesMaxBytes int64
	// DeadMaxAge bounds how long a dead letter is kept.
	DeadMaxAge time.Duration
}

// Configs returns the configurations of all streams of a deployment, in the order of their
// creation.
//
// The stream of waiting operations cannot discard new messages, because the server does not allow
// that together with message schedules. Instead it has no limit, so that nothing in it is ever
// discarded; if the account is full the publish is refused.
func Configs(s events.Streams, limits Limits) []jetstream.StreamConfig {
	subjects := events.Subjects(s)
	replicas := max(limits.Replicas, 1)
	kept := func(name, description string, subjects ...string) jetstream.StreamConfig {
		c := queue(name, description, replicas, subjects...)
		c.Retention, c.Discard = jetstream.LimitsPolicy, jetstream.DiscardOld
		return c
	}

	intake := queue(s.Intake(), "Rebound: what services say", replicas, subjects.Submissions(), subjects.Reports())
	if limits.MaxSubmitted > 0 {
		intake.MaxMsgsPerSubject, intake.DiscardNewPerSubject = limits.MaxSubmitted, true
	}

	waiting := queue(s.Waiting(), "Rebound: operations that wait for their time or their gate", replicas, subjects.AllParked(), subjects.AllDue(), subjects.AllHeld())
	waiting.Discard = jetstream.DiscardOld
	waiting.AllowMsgSchedules, waiting.AllowMsgTTL, waiting.AllowRollup = true, true, true

	outcomes := kept(s.Outcomes(), "Rebound: what happened to operations", subjects.AllOutcomes(), subjects.AllEvents())
	outcomes.MaxAge = limits.OutcomesMaxAge
	outcomes.MaxBytes = limits.OutcomesMaxBytes

	dead := kept(s.Dead(), "Rebound: dead letters", subjects.AllDead())
	dead.MaxMsgsPerSubject = 1
	dead.MaxAge = limits.DeadMaxAge

	return []jetstream.StreamConfig{intake, waiting, outcomes, dead}
}

// WorkConfig returns the configuration of [events.Streams.Work].
func WorkConfig(s events.Streams, limits Limits) jetstream.StreamConfig {
	return queue(s.Work(), "Rebound: what workers are to do", max(limits.Replicas, 1), events.Subjects(s).Works())
}

// queue returns the configuration of a work queue.
func queue(name, description string, replicas int, subjects ...string) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: name, Description: description, Subjects: subjects,
		Retention: jetstream.WorkQueuePolicy, Discard: jetstream.DiscardNew,
		Storage: jetstream.FileStorage, Replicas: replicas,
		Duplicates: events.DedupWindow, AllowDirect: true,
	}
}
