package streams

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// IncompatibleError means that a stream with one of Rebound's names exists but cannot be used.
type IncompatibleError struct {
	Stream string
	// Problems has one clause for each unsuitable setting.
	Problems []string
}

// Error implements error.
func (e *IncompatibleError) Error() string {
	return fmt.Sprintf("stream %s exists and is incompatible: %s; remove or rename it, or choose another --prefix",
		e.Stream, strings.Join(e.Problems, "; "))
}

// State is what [Verify] found about one stream.
type State struct {
	Name string
	// Found reports whether the stream exists.
	Found bool
	// Problems are the settings that make it unusable.
	Problems []string
	// Differences are harmless settings that an operator changed, such as a wider limit.
	Differences []string
	Messages    uint64
	Bytes       uint64
}

// Ensure creates missing streams and verifies the others. It updates an existing stream to add a
// missing feature or subject, to widen a limit, and to raise the number of replicas; it never
// narrows a limit. The error is an [*IncompatibleError] if a stream cannot be used.
func Ensure(ctx context.Context, js jetstream.JetStream, configs []jetstream.StreamConfig) error {
	for _, want := range configs {
		if err := ensure(ctx, js, want); err != nil {
			return err
		}
	}
	return nil
}

// codeOverlap says that another stream captures some of the subjects.
const codeOverlap jetstream.ErrorCode = 10065

// IsOverlap reports whether a stream cannot be made because another captures some of its
// subjects.
func IsOverlap(err error) bool {
	return HasCode(err, codeOverlap)
}

func ensure(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig) error {
	s, err := js.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		_, err = js.CreateStream(ctx, want)
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			// Another instance created it between the two calls.
			s, err = js.Stream(ctx, want.Name)
		} else {
			if err != nil {
				return fmt.Errorf("creating stream %s: %w", want.Name, err)
			}
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("reading stream %s: %w", want.Name, err)
	}
	have := s.CachedInfo().Config
	if problems := incompatible(have, want); len(problems) > 0 {
		return &IncompatibleError{Stream: want.Name, Problems: problems}
	}
	next, changed := widened(have, want)
	if !changed {
		return nil
	}
	if _, err := js.UpdateStream(ctx, next); err != nil {
		return fmt.Errorf("updating stream %s: %w", want.Name, err)
	}
	return nil
}

// Verify reports on the streams without changing anything.
func Verify(ctx context.Context, js jetstream.JetStream, configs []jetstream.StreamConfig) ([]State, error) {
	states := make([]State, 0, len(configs))
	for _, want := range configs {
		state := State{Name: want.Name}
		s, err := js.Stream(ctx, want.Name)
		switch {
		case errors.Is(err, jetstream.ErrStreamNotFound):
		case err != nil:
			return states, fmt.Errorf("reading stream %s: %w", want.Name, err)
		default:
			info := s.CachedInfo()
			state.Found = true
			state.Problems = incompatible(info.Config, want)
			state.Differences = differences(info.Config, want)
			state.Messages, state.Bytes = info.State.Msgs, info.State.Bytes
		}
		states = append(states, state)
	}
	return states, nil
}

// clause is one condition that makes a stream unusable.
type clause struct {
	holds bool
	text  string
}

// incompatible lists what an update cannot or must not change.
func incompatible(have, want jetstream.StreamConfig) []string {
	clauses := []clause{
		{have.Retention != want.Retention, fmt.Sprintf("its retention is %s, not %s", have.Retention, want.Retention)},
		{have.Storage != want.Storage, fmt.Sprintf("its storage is %s, not %s", have.Storage, want.Storage)},
		{have.Mirror != nil || len(have.Sources) > 0, "it mirrors or sources another stream"},
		{have.SubjectTransform != nil, "it transforms subjects"},
		{have.NoAck, "it does not acknowledge publishes"},
		{have.Sealed, "it is sealed"},
	}
	for _, subject := range have.Subjects {
		clauses = append(clauses, clause{!slices.Contains(want.Subjects, subject), fmt.Sprintf("it listens on %q", subject)})
	}
	if want.Retention == jetstream.WorkQueuePolicy {
		clauses = append(clauses, lossy(have)...)
	}
	clauses = append(clauses, clause{have.DenyDelete, "it denies deletes"})

	var problems []string
	for _, c := range clauses {
		if c.holds {
			problems = append(problems, c.text)
		}
	}
	return problems
}

// lossy returns the conditions under which a work queue would lose waiting messages.
func lossy(have jetstream.StreamConfig) []clause {
	rejectsPerSubject := have.DiscardNewPerSubject && have.Discard == jetstream.DiscardNew
	bounded := have.MaxMsgs > 0 || have.MaxBytes > 0
	return []clause{
		{have.MaxAge > 0, fmt.Sprintf("its max age of %s would delete what waits", have.MaxAge)},
		{have.MaxMsgsPerSubject > 0 && !rejectsPerSubject, fmt.Sprintf("its limit of %d messages per subject would delete what waits", have.MaxMsgsPerSubject)},
		{have.Discard == jetstream.DiscardOld && bounded, "it discards old messages when it is full"},
	}
}

// differences lists what an operator set differently and may keep.
func differences(have, want jetstream.StreamConfig) []string {
	var out []string
	add := func(what string, h, w any) {
		if h != w {
			out = append(out, fmt.Sprintf("%s is %v, not %v", what, h, w))
		}
	}
	limit := func(v int64) int64 { return max(v, 0) }
	add("max age", have.MaxAge, want.MaxAge)
	add("max bytes", limit(have.MaxBytes), limit(want.MaxBytes))
	add("max messages", limit(have.MaxMsgs), limit(want.MaxMsgs))
	add("max messages per subject", limit(have.MaxMsgsPerSubject), limit(want.MaxMsgsPerSubject))
	add("replicas", max(have.Replicas, 1), max(want.Replicas, 1))
	return out
}

// widened adds to have what it lacks of want, and narrows nothing.
func widened(have, want jetstream.StreamConfig) (next jetstream.StreamConfig, changed bool) {
	next = have
	next.AllowDirect = have.AllowDirect || want.AllowDirect
	next.AllowMsgSchedules = have.AllowMsgSchedules || want.AllowMsgSchedules
	next.AllowMsgTTL = have.AllowMsgTTL || want.AllowMsgTTL
	next.AllowRollup = have.AllowRollup || want.AllowRollup
	next.Subjects = slices.Clone(have.Subjects)
	for _, subject := range want.Subjects {
		if !slices.Contains(next.Subjects, subject) {
			next.Subjects = append(next.Subjects, subject)
		}
	}
	next.Replicas = max(have.Replicas, want.Replicas)
	next.Duplicates = max(have.Duplicates, want.Duplicates)
	next.MaxAge = widerLimit(have.MaxAge, want.MaxAge)
	next.MaxBytes = widerLimit(have.MaxBytes, want.MaxBytes)
	next.MaxMsgsPerSubject = widerPerSubject(have, want)
	return next, !reflect.DeepEqual(have, next)
}

// widerLimit returns the wider of two limits. One that is not positive is unlimited.
func widerLimit[T ~int64](have, want T) T {
	if have > 0 && (want <= 0 || want > have) {
		return want
	}
	return have
}

// widerPerSubject returns the limit of messages per subject. A limit of 1 is part of the stream's
// function, so it is set where there is none.
func widerPerSubject(have, want jetstream.StreamConfig) int64 {
	switch {
	case have.DiscardNewPerSubject && want.MaxMsgsPerSubject > have.MaxMsgsPerSubject:
		return want.MaxMsgsPerSubject
	case want.MaxMsgsPerSubject == 1 && have.MaxMsgsPerSubject <= 0:
		return 1
	}
	return have.MaxMsgsPerSubject
}

// Lease is how long the server waits for an ack or a renewal before it gives an operation to
// another instance.
const Lease = 30 * time.Second

// Consumer returns the configuration of a shared, durable consumer of a work queue. The number of
// deliveries is unlimited.
func Consumer(name, filter string, lease time.Duration, pending int) jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable: name, Description: "Rebound", FilterSubject: filter,
		AckPolicy: jetstream.AckExplicitPolicy, AckWait: lease,
		MaxDeliver: -1, MaxAckPending: pending,
	}
}
