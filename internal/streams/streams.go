package streams

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// IncompatibleError says that a stream of our name exists and cannot serve.
type IncompatibleError struct {
	Stream string
	// Problems has one clause for each setting that is in the way.
	Problems []string
}

// Error implements error.
func (e *IncompatibleError) Error() string {
	return fmt.Sprintf("stream %s exists and is incompatible: %s; remove or rename it, or choose another --prefix",
		e.Stream, strings.Join(e.Problems, "; "))
}

// State says what [Ensure] or [Verify] found about one stream.
type State struct {
	Name string
	// Found is whether the stream exists.
	Found bool
	// Problems are the settings that make it unusable.
	Problems []string
	// Differences are settings that an operator chose otherwise and that do no
	// harm, such as a wider limit.
	Differences []string
	Messages    uint64
	Bytes       uint64
}

// Ensure creates the streams that are missing and verifies the others. A stream
// that exists is updated to add a feature or a subject that it lacks, to widen a
// limit, and to raise the number of replicas; no limit is ever narrowed. The
// error is an [*IncompatibleError] when one cannot serve.
func Ensure(ctx context.Context, js jetstream.JetStream, configs []jetstream.StreamConfig) error {
	for _, want := range configs {
		if err := ensure(ctx, js, want); err != nil {
			return err
		}
	}
	return nil
}

func ensure(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig) error {
	s, err := js.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		_, err = js.CreateStream(ctx, want)
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			// Another instance made it between the two calls.
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

// incompatible lists what an update cannot or must not change.
func incompatible(have, want jetstream.StreamConfig) []string {
	var problems []string
	add := func(layout string, args ...any) { problems = append(problems, fmt.Sprintf(layout, args...)) }
	if have.Retention != want.Retention {
		add("its retention is %s, not %s", have.Retention, want.Retention)
	}
	if have.Storage != want.Storage {
		add("its storage is %s, not %s", have.Storage, want.Storage)
	}
	if have.Mirror != nil || len(have.Sources) > 0 {
		add("it mirrors or sources another stream")
	}
	if have.SubjectTransform != nil {
		add("it transforms subjects")
	}
	if have.NoAck {
		add("it does not acknowledge publishes")
	}
	if have.Sealed {
		add("it is sealed")
	}
	for _, subject := range have.Subjects {
		if !slices.Contains(want.Subjects, subject) {
			add("it listens on %q", subject)
		}
	}
	if want.Retention == jetstream.WorkQueuePolicy {
		if have.MaxAge > 0 {
			add("its max age of %s would delete what waits", have.MaxAge)
		}
		if have.MaxMsgsPerSubject > 0 && (!have.DiscardNewPerSubject || have.Discard != jetstream.DiscardNew) {
			add("its limit of %d messages per subject would delete what waits", have.MaxMsgsPerSubject)
		}
		if have.Discard == jetstream.DiscardOld && (have.MaxMsgs > 0 || have.MaxBytes > 0) {
			add("it discards old messages when it is full")
		}
	}
	if have.DenyDelete {
		add("it denies deletes")
	}
	return problems
}

// differences lists what an operator set otherwise and may keep.
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
	on := func(have *bool, want bool) {
		if want && !*have {
			*have, changed = true, true
		}
	}
	on(&next.AllowDirect, want.AllowDirect)
	on(&next.AllowMsgSchedules, want.AllowMsgSchedules)
	on(&next.AllowMsgTTL, want.AllowMsgTTL)
	on(&next.AllowRollup, want.AllowRollup)
	for _, subject := range want.Subjects {
		if !slices.Contains(next.Subjects, subject) {
			next.Subjects, changed = append(next.Subjects, subject), true
		}
	}
	if want.Replicas > have.Replicas {
		next.Replicas, changed = want.Replicas, true
	}
	if have.MaxAge > 0 && (want.MaxAge == 0 || want.MaxAge > have.MaxAge) {
		next.MaxAge, changed = want.MaxAge, true
	}
	if have.MaxBytes > 0 && (want.MaxBytes <= 0 || want.MaxBytes > have.MaxBytes) {
		next.MaxBytes, changed = want.MaxBytes, true
	}
	if have.DiscardNewPerSubject && want.MaxMsgsPerSubject > have.MaxMsgsPerSubject {
		next.MaxMsgsPerSubject, changed = want.MaxMsgsPerSubject, true
	}
	if next.Duplicates < want.Duplicates {
		next.Duplicates, changed = want.Duplicates, true
	}
	if want.MaxMsgsPerSubject == 1 && next.MaxMsgsPerSubject <= 0 {
		next.MaxMsgsPerSubject, changed = 1, true
	}
	return next, changed
}

// Lease is how long the server waits for a sign of life before it gives an
// operation to another instance.
const Lease = 30 * time.Second

// Consumer returns the configuration of a shared, durable consumer of a work
// queue. Nothing is ever dropped for the number of its deliveries.
func Consumer(name, filter string, lease time.Duration, pending int) jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable: name, Description: "Rebound", FilterSubject: filter,
		AckPolicy: jetstream.AckExplicitPolicy, AckWait: lease,
		MaxDeliver: -1, MaxAckPending: pending,
	}
}
