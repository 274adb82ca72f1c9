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
	"github.com/rebound-mq/rebound/internal/deadletter"
	"github.com/rebound-mq/rebound/internal/streams"
)

// drain waits until nothing waits any more, and no longer than the bound.
func (h *history) drain(ctx context.Context, js jetstream.JetStream) error {
	h.record.Bound = h.config.Drain + h.kind.Settle
	empty := 0
	err := await(ctx, h.record.Bound, func(ctx context.Context) bool {
		n, err := outstanding(ctx, js)
		if err != nil || n > 0 {
			empty = 0
			return false
		}
		empty++
		return empty == 3
	})
	h.record.Drained = err == nil
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return ctx.Err()
}

// outstanding counts what the streams hold that has not ended. An operation goes from
// the intake to what waits, never back, so this is the order to ask in.
func outstanding(ctx context.Context, js jetstream.JetStream) (uint64, error) {
	names := events.Streams{}
	total := uint64(0)
	for _, name := range []string{names.Intake(), names.Waiting()} {
		s, err := js.Stream(ctx, name)
		if err != nil {
			return 0, fmt.Errorf("counting what stream %s holds: %w", name, err)
		}
		total += s.CachedInfo().State.Msgs
	}
	return total, nil
}

// sampled is how many dead letters are replayed at the end.
const sampled = 5

// replaySome replays some dead letters; the target takes them now.
func (h *history) replaySome(ctx context.Context, js jetstream.JetStream) error {
	h.target.change(func(m *mood) { *m = mood{mercy: true} })
	letters, taken := deadletter.New(js, ""), 0
	for d, err := range letters.List(ctx, events.DeadLetterFilter{Limit: sampled}) {
		if err != nil {
			return fmt.Errorf("listing the dead letters: %w", err)
		}
		if h.replay(ctx, letters, d) {
			taken++
		}
	}
	if taken == 0 {
		return nil
	}
	return h.drain(ctx, js)
}

// replay replays one dead letter and reports whether the request is stored.
func (h *history) replay(ctx context.Context, letters *deadletter.Letters, d *events.DeadLetter) bool {
	if d.State == nil {
		return false
	}
	call, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := letters.Replay(call, d); err != nil {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.record.Replays = append(h.record.Replays, Replay{d.ID, d.State.Replay, time.Now()})
	return true
}

// collect reads the streams into the record.
func (h *history) collect(ctx context.Context, js jetstream.JetStream) error {
	h.mu.Lock()
	for _, s := range h.submissions {
		h.record.Submissions = append(h.record.Submissions, *s)
	}
	h.mu.Unlock()
	h.target.mu.Lock()
	h.record.Attempts = append(h.record.Attempts, h.target.attempts...)
	h.target.mu.Unlock()
	for _, in := range h.instances {
		h.record.Instances = append(h.record.Instances, in.measured)
	}
	names := events.Streams{}
	if err := readAll(ctx, js, names.Outcomes(), h.record.hear); err != nil {
		return err
	}
	if err := readAll(ctx, js, names.Dead(), h.record.bury); err != nil {
		return err
	}
	if h.kind.Soak {
		h.record.Series = append(h.record.Series, h.record.lateness(h.soaking, 2*sampleEvery))
	}
	if h.record.Drained {
		return nil
	}
	for _, name := range []string{names.Intake(), names.Waiting()} {
		if err := readWaiting(ctx, js, name, h.record.wait); err != nil {
			return fmt.Errorf("reading what waits in %s: %w", name, err)
		}
	}
	return nil
}

// readTries is how often it is tried to read what waits, which may be very much.
const readTries = 10

// readWaiting calls each with every message of a work queue.
func readWaiting(ctx context.Context, js jetstream.JetStream, name string, each func(*jetstream.RawStreamMsg)) error {
	next := uint64(1)
	for try := 0; ; try++ {
		var failed error
		reading, read := context.WithTimeout(ctx, readWait)
		for m, err := range streams.Scan(reading, js, name, ">", jetstreamext.GetBatchSeq(next)) {
			if failed = err; err != nil {
				break
			}
			each(m)
			next = m.Sequence + 1
		}
		read()
		if failed == nil || try == readTries || !pause(ctx, lastWait) {
			return failed
		}
	}
}

// lastWait is how long is waited for more of a stream whose last message is gone.
const lastWait = 5 * time.Second

// readWait bounds how long the servers may take to answer.
const readWait = time.Minute

// readAll reads a stream from its beginning to its end.
func readAll(ctx context.Context, js jetstream.JetStream, name string, each func(m jetstream.Msg, meta *jetstream.MsgMetadata) error) error {
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
			err = each(m, meta)
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

// hear records an event.
func (r *Record) hear(m jetstream.Msg, meta *jetstream.MsgMetadata) error {
	switch subject := m.Subject(); {
	case strings.HasPrefix(subject, "retry.outcome."):
		return add(&r.Outcomes, m, meta)
	case strings.HasPrefix(subject, "retry.event."+events.RetryScheduled):
		err := add(&r.Scheduled, m, meta)
		if err == nil {
			r.Scheduled[len(r.Scheduled)-1].Event.Factors = nil // nobody asks
		}
		return err
	case strings.HasPrefix(subject, "retry.event."+events.BreakerChanged):
		return add(&r.Breakers, m, meta)
	}
	return nil
}

// add decodes an event and appends it.
func add[T any](to *[]Told[T], m jetstream.Msg, meta *jetstream.MsgMetadata) error {
	told := Told[T]{Sequence: meta.Sequence.Stream, At: meta.Timestamp}
	if err := json.Unmarshal(m.Data(), &told.Event); err != nil {
		return fmt.Errorf("decoding the event on %s: %w", m.Subject(), err)
	}
	*to = append(*to, told)
	return nil
}

// bury records a dead letter.
func (r *Record) bury(m jetstream.Msg, meta *jetstream.MsgMetadata) error {
	letter := DeadLetter{
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

// wait records something that had not ended.
func (r *Record) wait(m *jetstream.RawStreamMsg) {
	w := Waiting{ID: m.Subject[strings.LastIndexByte(m.Subject, '.')+1:], Subject: m.Subject, Since: m.Time}
	if op, err := eventwire.ReadState(m.Header); err == nil {
		w.ID, w.Replay, w.Due = op.ID, op.Replay, op.Due
	} else if id := m.Header.Get("ce-id"); id != "" { // a submission
		_, name, _ := strings.Cut(m.Subject, "."+service+".")
		w.ID = events.OperationID(source, id, service, name)
	}
	r.Waiting = append(r.Waiting, w)
}
