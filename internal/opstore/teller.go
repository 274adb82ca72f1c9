package opstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/internal/streams"
)

const (
	// probeEvery is the pause between two probes of a full store. It leaves time for a retry
	// before the refusal is forgotten.
	probeEvery = refusedFor - longestPause
	// longestFull bounds the pause after a message was refused although a probe was not, which
	// begins at probeEvery and doubles.
	longestFull = 8 * probeEvery
	// probeTTL is how long the server keeps a probe that could not be removed.
	probeTTL = "2s"
)

// errFull says that a message was not published, because it would not be stored now.
var errFull = errors.New("the store is full")

// teller publishes messages that plain subscribers hear as well as a stream. They also hear
// what the stream does not store, because it is missing or full. So after a failure the teller
// publishes only once the stream is there, and when a store is full only once a probe, which
// these subscribers do not hear, was stored; else the same would be told with every try. It is
// safe for concurrent use.
type teller struct {
	js        jetstream.JetStream
	publisher Publisher
	stream    string
	storage   *Storage
	// probe stores something that nobody hears, and removes it.
	probe func(ctx context.Context) error

	mu       sync.Mutex // guards the fields below
	doubtful bool       // whether the last publish failed
	// refused is when a full store refused the last time, zero if it has stored since; pause is
	// for how long nothing is published then, and freed how often the account had been freed.
	refused time.Time
	pause   time.Duration
	freed   uint64
	// known is how often a store had refused anything when this one stored the last time.
	known uint64
}

// publish publishes a message and waits until it is stored. If it is not published, the error
// is one that passes.
func (t *teller) publish(ctx context.Context, msg *nats.Msg) (*jetstream.PubAck, error) {
	full, doubtful, err := t.begin()
	if err != nil {
		return nil, err
	}
	if full {
		if err := t.probe(ctx); err != nil {
			t.stillFull()
			return nil, err
		}
	}
	if doubtful {
		if _, err := t.js.Stream(ctx, t.stream); err != nil {
			return nil, fmt.Errorf("looking for stream %s: %w", t.stream, err)
		}
	}
	ack, err := t.publisher.PublishMsg(ctx, msg)
	t.end(err)
	return ack, err
}

// publishAfter publishes first, which is another stream's, and, unless that is nil, msg after it,
// if nothing keeps the teller from publishing at once. told is whether msg is known to be stored.
// If it is not, [teller.publish] must publish it; the caller must not use msg itself again.
func (t *teller) publishAfter(ctx context.Context, first, msg *nats.Msg) (ack *jetstream.PubAck, told bool, err error) {
	if msg == nil || !t.sound() {
		ack, err = t.publisher.PublishMsg(ctx, first)
		return ack, false, err
	}
	a := t.publisher.PublishBoth(ctx, first, msg)
	if a.Followed {
		t.end(a.NextErr)
		t.storage.seen(a.NextErr)
	}
	return a.Ack, a.Followed && a.NextErr == nil, a.Err
}

// sound reports whether [teller.publish] would publish at once.
func (t *teller) sound() bool {
	refusals, problem := t.storage.Refusals(), t.storage.Problem()
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.doubtful && t.refused.IsZero() && (problem == "" || refusals == t.known)
}

// begin returns whether the store counts as full, and an error while that need not be asked
// again. Of the publishes after a pause the first finds out, and the others wait for what it
// finds.
func (t *teller) begin() (full, doubtful bool, err error) {
	freed, refusals, problem := t.storage.timesFreed(), t.storage.Refusals(), t.storage.Problem()
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case !t.refused.IsZero() && time.Since(t.refused) < t.pause && freed == t.freed:
		return true, t.doubtful, errFull
	case t.refused.IsZero() && (problem == "" || refusals == t.known):
		return false, t.doubtful, nil
	}
	t.refused, t.freed, t.pause = time.Now(), freed, max(t.pause, probeEvery)
	return true, t.doubtful, nil
}

// stillFull records that a probe was not stored.
func (t *teller) stillFull() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.refused, t.pause = time.Now(), probeEvery
}

// end records how a publish ended.
func (t *teller) end(err error) {
	freed, refusals := t.storage.timesFreed(), t.storage.Refusals()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.doubtful = err != nil
	switch {
	case err == nil:
		t.refused, t.pause, t.known = time.Time{}, 0, refusals
	case fullness(err) != "":
		t.refused, t.freed = time.Now(), freed
		t.pause = min(max(2*t.pause, probeEvery), longestFull)
	}
}

// probe finds out whether anything can be stored. It stores a message that is as large as many
// outcomes and that no subscriber of outcomes or dead letters hears, and removes it.
func (s *Store) probe(ctx context.Context) error {
	msg := &nats.Msg{Subject: s.subjects.Probe(), Header: nats.Header{jetstream.MsgTTLHeader: {probeTTL}}, Data: make([]byte, reserve)}
	ack, err := s.publisher.PublishMsg(ctx, msg)
	if err != nil {
		return fmt.Errorf("finding out whether there is room: %w", err)
	}
	if err := streams.Delete(ctx, s.js, s.streams.Waiting(), ack.Sequence); err != nil && !streams.IsGone(err) {
		return fmt.Errorf("removing what was stored to find out whether there is room: %w", err)
	}
	return nil
}
