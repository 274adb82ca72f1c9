//go:build linux

package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"github.com/rebound-mq/rebound/events"
	eventwire "github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/internal/backoff"
	"github.com/rebound-mq/rebound/internal/chaos/proof"
	"github.com/rebound-mq/rebound/internal/streams"
)

// collect reads the streams into the record.
func (h *history) collect(ctx context.Context, js jetstream.JetStream) error {
	h.mu.Lock()
	for _, s := range h.submissions {
		h.record.Submissions = append(h.record.Submissions, s.Submission)
	}
	h.mu.Unlock()
	h.target.mu.Lock()
	h.record.Attempts = append(h.record.Attempts, h.target.attempts...)
	h.target.mu.Unlock()
	for _, in := range h.instances {
		h.record.Instances = append(h.record.Instances, in.measured)
	}
	names := events.Streams{}
	if err := readAll(ctx, js, names.Outcomes(), h.record, recordEvent); err != nil {
		return err
	}
	if err := readAll(ctx, js, names.Dead(), h.record, recordDead); err != nil {
		return err
	}
	if h.kind.Soak {
		h.record.Series = append(h.record.Series, h.record.Lateness(h.soaking, 2*sampleEvery))
	}
	if h.record.Drained {
		return nil
	}
	for _, name := range []string{names.Intake(), names.Waiting()} {
		if err := readWaiting(ctx, js, name, h.record); err != nil {
			return fmt.Errorf("reading the waiting operations in %s: %w", name, err)
		}
	}
	return nil
}

// readTries is how often reading a stream of waiting operations, which may be very many, is
// retried.
const readTries = 10

// readWaiting records every message of a work queue.
func readWaiting(ctx context.Context, js jetstream.JetStream, name string, r *proof.Record) error {
	next := uint64(1)
	for try := 0; ; try++ {
		var failed error
		reading, read := context.WithTimeout(ctx, readWait)
		for m, err := range streams.Scan(reading, js, name, ">", jetstreamext.GetBatchSeq(next)) {
			if failed = err; err != nil {
				break
			}
			recordWaiting(r, m)
			next = m.Sequence + 1
		}
		read()
		if failed == nil || try == readTries || !backoff.Sleep(ctx, lastWait) {
			return failed
		}
	}
}

// lastWait bounds the wait for more of a stream whose last message is gone.
const lastWait = 5 * time.Second

// readWait bounds the wait for an answer of the servers.
const readWait = time.Minute

// recorder adds one message to a record.
type recorder func(r *proof.Record, m jetstream.Msg, meta *jetstream.MsgMetadata) error

// readAll records a stream from its beginning to its end.
func readAll(ctx context.Context, js jetstream.JetStream, name string, r *proof.Record, each recorder) error {
	opening, opened := context.WithTimeout(ctx, readWait)
	defer opened()
	s, err := js.Stream(opening, name)
	if err != nil {
		return fmt.Errorf("reading stream %s: %w", name, err)
	}
	state := s.CachedInfo().State
	if state.Msgs == 0 {
		return nil
	}
	c, err := s.OrderedConsumer(opening, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return fmt.Errorf("reading stream %s: %w", name, err)
	}
	messages, err := c.Messages()
	if err != nil {
		return fmt.Errorf("reading stream %s: %w", name, err)
	}
	defer messages.Stop()
	for n, wait := uint64(0), readWait; ; n++ {
		call, end := context.WithTimeout(ctx, wait)
		m, err := messages.Next(jetstream.NextContext(call))
		end()
		if errors.Is(err, context.DeadlineExceeded) && n >= state.Msgs && ctx.Err() == nil {
			return nil
		}
		var meta *jetstream.MsgMetadata
		if err == nil {
			meta, err = m.Metadata()
		}
		if err == nil {
			err = each(r, m, meta)
		}
		switch {
		case err != nil:
			return fmt.Errorf("reading stream %s after %d of %d messages: %w", name, n, state.Msgs, err)
		case meta.Sequence.Stream >= state.LastSeq:
			return nil
		case meta.NumPending == 0:
			wait = lastWait
		}
	}
}

// recordEvent records an event.
func recordEvent(r *proof.Record, m jetstream.Msg, meta *jetstream.MsgMetadata) error {
	switch subject := m.Subject(); {
	case strings.HasPrefix(subject, "retry.outcome."):
		return add(&r.Outcomes, m, meta)
	case strings.HasPrefix(subject, "retry.event."+events.RetryScheduled):
		err := add(&r.Scheduled, m, meta)
		if err == nil {
			r.Scheduled[len(r.Scheduled)-1].Event.Factors = nil // not needed
		}
		return err
	case strings.HasPrefix(subject, "retry.event."+events.BreakerChanged):
		return add(&r.Breakers, m, meta)
	}
	return nil
}

// add decodes an event and appends it.
func add[T any](to *[]proof.Published[T], m jetstream.Msg, meta *jetstream.MsgMetadata) error {
	e := proof.Published[T]{Sequence: meta.Sequence.Stream, At: meta.Timestamp}
	if err := json.Unmarshal(m.Data(), &e.Event); err != nil {
		return fmt.Errorf("decoding the event on %s: %w", m.Subject(), err)
	}
	*to = append(*to, e)
	return nil
}

// recordDead records a dead letter.
func recordDead(r *proof.Record, m jetstream.Msg, meta *jetstream.MsgMetadata) error {
	letter := proof.DeadLetter{
		ID: m.Subject()[strings.LastIndexByte(m.Subject(), '.')+1:], Payload: string(m.Data()), Sequence: meta.Sequence.Stream, At: meta.Timestamp,
	}
	d, err := eventwire.DecodeDeadLetter(m.Subject(), meta.Sequence.Stream, m.Headers(), m.Data())
	switch {
	case err != nil:
		letter.Problem = err.Error()
	case d.State == nil:
		letter.Reason, letter.Problem = d.Reason, "it has no state"
	default:
		letter.Reason, letter.Replay = d.Reason, d.State.Replay
	}
	r.Dead = append(r.Dead, letter)
	return nil
}

// recordWaiting records a message that has not ended.
func recordWaiting(r *proof.Record, m *jetstream.RawStreamMsg) {
	w := proof.Waiting{ID: m.Subject[strings.LastIndexByte(m.Subject, '.')+1:], Subject: m.Subject, Since: m.Time}
	if op, err := eventwire.ReadState(m.Header); err == nil {
		w.ID, w.Replay, w.Due = op.ID, op.Replay, op.Due
	} else if id := m.Header.Get("ce-id"); id != "" { // a submission
		_, name, _ := strings.Cut(m.Subject, "."+service+".")
		w.ID = events.OperationID(source, id, service, name)
	}
	r.Waiting = append(r.Waiting, w)
}
