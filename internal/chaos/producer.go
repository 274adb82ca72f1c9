//go:build linux

package chaos

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/backoff"
	"github.com/rebound-mq/rebound/internal/chaos/proof"
)

const (
	source = "/chaos"
	// submitFor bounds how long submitting one operation is retried.
	submitFor = 20 * time.Second
	// One in refusedOf operations is refused by the target for good, one in failingOf fails at
	// every attempt.
	refusedOf, failingOf = 40, 60
	// fewAttempts is maxAttempts of those that always fail.
	fewAttempts = 4
)

// priorities are the operations' priorities, in turn: most are normal.
var priorities = [...]string{"normal", "high", "normal", "normal", "low", "normal", "critical"}

// submission is an operation of the producer.
type submission struct {
	proof.Submission
	// published sends it to the workers of a stream.
	published bool
	priority  string
}

// produce submits operations at the kind's rate until ctx ends, and waits for the last
// acknowledgements. If it is late it catches up.
func (h *history) produce(ctx context.Context, js jetstream.JetStream) {
	began, every := time.Now(), time.Second/time.Duration(h.config.rate(h.kind))
	for i := 0; ; i++ {
		if !backoff.Sleep(ctx, time.Until(began.Add(time.Duration(i)*every))) {
			h.producing.Wait()
			return
		}
		s := h.next()
		h.producing.Go(func() { h.submit(js, s) })
	}
}

// next makes the next operation and announces it to the target and the record.
func (h *history) next() *submission {
	h.mu.Lock()
	s := h.makeSubmission(len(h.submissions))
	h.submissions = append(h.submissions, s)
	h.mu.Unlock()
	h.target.expect(s)
	return s
}

// submit submits an operation. It finishes even after the producer has stopped.
func (h *history) submit(js jetstream.JetStream, s *submission) {
	if persist(h.ctx, js, s.message(), "submit-"+s.EventID, submitFor) {
		h.mu.Lock()
		s.Stored = time.Now()
		h.mu.Unlock()
	}
}

// makeSubmission returns the i-th operation.
func (h *history) makeSubmission(i int) *submission {
	op, id := "op"+strconv.Itoa(i%h.kind.Keys), strconv.Itoa(i)
	s := &submission{Submission: proof.Submission{
		ID: events.OperationID(source, id, service, op), EventID: id, Key: events.Key(service, op),
		Payload: fmt.Sprintf("payload %d of %d", i, h.seed), At: time.Now(),
	}, published: h.kind.published(i), priority: priorities[i%len(priorities)]}
	switch {
	case i%refusedOf == refusedOf-1:
		s.Doomed = true
	case i%failingOf == failingOf-1:
		s.Doomed, s.MaxAttempts = true, fewAttempts
	}
	return s
}

func (s *submission) message() *nats.Msg {
	_, op, _ := events.SplitKey(s.Key)
	m := nats.NewMsg(events.Subjects{}.Submit(service, op))
	m.Data = []byte(s.Payload)
	for k, v := range map[string]string{
		"ce-specversion": "1.0", "ce-id": s.EventID, "ce-source": source, "ce-type": events.TypeFailed, "ce-errorcode": "503", "ce-priority": s.priority,
		"ce-time": s.At.UTC().Format(time.RFC3339Nano),
	} {
		m.Header[k] = []string{v}
	}
	if s.published {
		m.Header["ce-delivery"] = []string{string(events.Publish)}
	}
	if s.MaxAttempts > 0 {
		m.Header["ce-maxattempts"] = []string{strconv.Itoa(s.MaxAttempts)}
	}
	return m
}
