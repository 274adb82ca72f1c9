//go:build linux

package chaos

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/backoff"
	"github.com/rebound-mq/rebound/internal/chaos/proof"
	"github.com/rebound-mq/rebound/internal/streams"
)

// target answers attempts, as a NATS micro service and as a worker of the work stream. Its
// answers depend only on the seed, the operation, the attempt and its mood.
type target struct {
	seed uint64
	fail int // percent of the attempts that fail
	js   jetstream.JetStream
	nc   *nats.Conn

	mu       sync.Mutex
	attempts []proof.Attempt        // guarded by mu
	mood     mood                   // guarded by mu
	kind     map[string]*submission // by event id; guarded by mu
	ended    func(s *submission)    // called after the last attempt of each operation, or nil; guarded by mu
	micro    micro.Service          // nil while it is absent; guarded by mu
	working  sync.WaitGroup
}

// mood is the target's current behaviour.
type mood struct {
	down, silent, mercy bool
	slow                time.Duration
}

func newTarget(nc *nats.Conn, js jetstream.JetStream, seed uint64, fail int) *target {
	return &target{seed: seed, fail: fail, nc: nc, js: js, kind: make(map[string]*submission)}
}

// expect announces an operation to the target before it is submitted.
func (t *target) expect(s *submission) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kind[s.EventID] = s
}

func (t *target) change(f func(m *mood)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f(&t.mood)
}

// watch sets ended, which is called with each operation after its last attempt.
func (t *target) watch(ended func(s *submission)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = ended
}

// listen makes the target answer requests.
func (t *target) listen() error {
	s, err := micro.AddService(t.nc, micro.Config{Name: service, Version: "1.0.0"})
	if err != nil {
		return fmt.Errorf("adding the target: %w", err)
	}
	err = s.AddEndpoint("op", micro.HandlerFunc(func(r micro.Request) {
		arrived := time.Now()
		t.working.Go(func() {
			code, silent := t.attempt(r.Subject(), nats.Header(r.Headers()), r.Data(), arrived)
			if silent {
				return
			}
			// The framework reads what a request was answered with once its handler has
			// returned, so the answer goes past it.
			answer := &nats.Msg{Subject: r.Reply(), Data: []byte("done")}
			if code != "" {
				answer.Data, answer.Header = nil, nats.Header{micro.ErrorCodeHeader: {code}, micro.ErrorHeader: {"the target says no"}}
			}
			_ = t.nc.PublishMsg(answer)
		})
	}), micro.WithEndpointSubject(service+".*"))
	if err != nil {
		return fmt.Errorf("adding the target's endpoint: %w", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.micro = s
	return t.nc.Flush()
}

// leave makes the target absent: nobody responds.
func (t *target) leave() error {
	t.mu.Lock()
	s := t.micro
	t.micro = nil
	t.mu.Unlock()
	if s == nil {
		return nil
	}
	return s.Stop()
}

// attempt makes one attempt and records it.
func (t *target) attempt(subject string, h nats.Header, data []byte, arrived time.Time) (code string, silent bool) {
	number, _ := strconv.Atoi(h.Get(events.HeaderAttempt))
	replay, _ := strconv.Atoi(h.Get(events.HeaderReplay))
	a := proof.Attempt{
		ID: h.Get(events.HeaderID), Key: events.Key(service, operationOf(subject)), Number: number, Replay: replay,
		Repeated: h.Get(events.HeaderRepeated) == "true", Token: h.Get(events.HeaderToken), Payload: string(data), At: arrived,
	}
	t.mu.Lock()
	now, s := t.mood, t.kind[h.Get("ce-id")]
	t.mu.Unlock()

	a.Code, a.Silent = t.answer(&a, s, now)
	<-time.After(t.pace(&a, now))
	a.End = time.Now()
	t.mu.Lock()
	t.attempts = append(t.attempts, a)
	if last := a.Succeeded() || s != nil && s.Doomed && (s.MaxAttempts == 0 || a.Number >= s.MaxAttempts); last && t.ended != nil {
		t.ended(s)
	}
	t.mu.Unlock()
	return a.Code, a.Silent
}

// operationOf returns the last token of a target's subject.
func operationOf(subject string) string { return subject[strings.LastIndexByte(subject, '.')+1:] }

// answer decides the result of an attempt.
func (t *target) answer(a *proof.Attempt, s *submission, now mood) (code string, silent bool) {
	switch {
	case now.silent:
		return "", true
	case now.down:
		return "503", false
	case now.mercy && a.Replay > 0:
		return "", false
	case s != nil && s.Doomed && s.MaxAttempts > 0:
		return "503", false
	case s != nil && s.Doomed:
		return "404", false
	case int(t.dice(a)%100) < t.fail:
		return "503", false
	}
	return "", false
}

// pace returns how long an attempt takes; most are quick.
func (t *target) pace(a *proof.Attempt, now mood) time.Duration {
	d := time.Duration(t.dice(a)>>8%3000) * time.Microsecond
	if t.dice(a)>>16%10 == 0 {
		d += 40 * time.Millisecond
	}
	return d + now.slow
}

// dice returns the random number of an attempt, which depends on the attempt alone.
func (t *target) dice(a *proof.Attempt) uint64 {
	f := fnv.New64a()
	_, _ = fmt.Fprintf(f, "%d/%s/%d/%d", t.seed, a.Payload, a.Replay, a.Number)
	x := f.Sum64() // mixed again, because FNV hardly changes its high bits
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	return x ^ x>>33
}

// workers is the durable consumer of the work stream.
const workers = "workers"

// work takes attempts from the work stream until ctx ends, and reports on them as the contract
// requires.
func (t *target) work(ctx context.Context) error {
	names := events.Streams{}
	config := streams.WorkConfig(names, streams.Limits{Replicas: nodeCount})
	if _, err := t.js.CreateStream(ctx, config); err != nil && !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		return fmt.Errorf("creating the work stream: %w", err)
	}
	c, err := t.js.CreateOrUpdateConsumer(ctx, config.Name, jetstream.ConsumerConfig{
		Durable: workers, AckPolicy: jetstream.AckExplicitPolicy, AckWait: 5 * time.Second, MaxDeliver: -1, MaxAckPending: 10_000,
	})
	if err != nil {
		return fmt.Errorf("creating the workers' consumer: %w", err)
	}
	t.working.Go(func() {
		for ctx.Err() == nil {
			batch, err := c.Fetch(256, jetstream.FetchMaxWait(time.Second))
			if err != nil {
				backoff.Sleep(ctx, 200*time.Millisecond)
				continue
			}
			for m := range batch.Messages() {
				arrived := time.Now()
				t.working.Go(func() { t.handle(ctx, m, arrived) })
			}
		}
	})
	return nil
}

// handle makes one attempt, reports it, and acks the message once the report is stored.
func (t *target) handle(ctx context.Context, m jetstream.Msg, arrived time.Time) {
	h := m.Headers()
	code, silent := t.attempt(m.Subject(), h, m.Data(), arrived)
	if !silent && !t.report(ctx, h, code) {
		return // the stream delivers it again
	}
	for ctx.Err() == nil {
		call, cancel := context.WithTimeout(ctx, 2*time.Second)
		err := m.DoubleAck(call)
		cancel()
		if err == nil {
			return
		}
		backoff.Sleep(ctx, 50*time.Millisecond)
	}
}

// report stores a worker's report and returns whether it is stored.
func (t *target) report(ctx context.Context, h nats.Header, code string) bool {
	report := nats.NewMsg(h.Get(events.HeaderReport))
	for _, name := range []string{events.HeaderID, events.HeaderAttempt, events.HeaderToken} {
		report.Header.Set(name, h.Get(name))
	}
	report.Header.Set(events.HeaderResult, string(events.Succeeded))
	if code != "" {
		report.Header.Set(events.HeaderResult, string(events.Failed))
		report.Header.Set(micro.ErrorCodeHeader, code)
		report.Header.Set(micro.ErrorHeader, "the worker says no")
	}
	id := "report-" + h.Get(events.HeaderToken)
	return persist(ctx, t.js, report, id, 20*time.Second)
}

// persist retries publishing until it is acknowledged, as a careful service does.
func persist(ctx context.Context, js jetstream.JetStream, m *nats.Msg, id string, bound time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	for {
		call, end := context.WithTimeout(ctx, 2*time.Second)
		_, err := js.PublishMsg(call, m, jetstream.WithMsgID(id), jetstream.WithRetryAttempts(0))
		end()
		if err == nil {
			return true
		}
		if !backoff.Sleep(ctx, 50*time.Millisecond) {
			return false
		}
	}
}
