package handlers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/time/rate"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/deadletter"
	"github.com/rebound-mq/rebound/internal/lanes"
	"github.com/rebound-mq/rebound/internal/natsconn"
	"github.com/rebound-mq/rebound/internal/opstore"
	"github.com/rebound-mq/rebound/internal/pull"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/internal/telemetry"
	"github.com/rebound-mq/rebound/scheduler"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

const (
	// lease is the ack wait of the model's consumers.
	lease = 30 * time.Second
	// pullWait is how long a pull waits for messages.
	pullWait = 5 * time.Second
)

// longestLate is the longest delay of a write that nobody answered. It is shorter than
// streams remember message ids.
const longestLate = time.Minute

// An instance is made of the product's real parts on a world. It may die or freeze between
// any two of its calls.
type instance struct {
	w        *world
	name     string
	dead     atomic.Bool
	frozen   []span
	shut     []span // when its gates are shut
	ctx      context.Context
	cancel   context.CancelFunc
	draining chan struct{}
	// pulls are the pullers, which end when it drains, and owned the rest.
	pulls, owned sync.WaitGroup
}

// gate stops a call of an instance that is dead or frozen. A dead instance's goroutine
// ends here.
func (i *instance) gate() {
	for {
		if i.dead.Load() {
			runtime.Goexit()
		}
		s, ok := within(i.frozen, time.Now())
		if !ok {
			return
		}
		time.Sleep(time.Until(s.to))
	}
}

// modelJS is JetStream for one instance.
type modelJS struct {
	jetstream.JetStream
	i *instance
}

func (j *modelJS) Options() jetstream.JetStreamOptions { return jetstream.JetStreamOptions{} }

func (j *modelJS) Conn() *nats.Conn {
	j.i.gate()
	return j.i.w.wire
}

// fault is what goes wrong with a call, if anything.
type fault int

const (
	well fault = iota
	refused
	pending
	replyLost
	arrivesLate
	neverArrives
)

func (w *world) fault(s *modelStream, r *rand.Rand) fault {
	if w.isHonest() {
		return well
	}
	if _, away := within(s.away, time.Now()); away {
		return []fault{refused, neverArrives}[r.IntN(2)]
	}
	if _, mute := within(s.mute, time.Now()); mute {
		return neverArrives
	}
	switch x := r.Float64(); {
	case x < 0.03:
		return refused
	case x < 0.07:
		return pending
	case x < 0.10:
		return replyLost
	case x < 0.12:
		return neverArrives
	case x < 0.14:
		return arrivesLate
	}
	return well
}

// unavailable returns an error that says that nothing was stored, for now.
func unavailable(r *rand.Rand) error {
	switch r.IntN(3) {
	case 0:
		return &jetstream.APIError{Code: 503, ErrorCode: 10008, Description: "JetStream system temporarily unavailable"}
	case 1:
		return jetstream.ErrNoStreamResponse
	}
	return nats.ErrNoResponders
}

// silence waits until an unanswered call times out, as the client does.
func silence(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, streams.CallTimeout)
	defer cancel()
	<-ctx.Done()
	return ctx.Err()
}

// later calls do after a while, unless the world has ended by then.
func (w *world) later(after time.Duration, do func()) {
	w.others.Go(func() {
		time.Sleep(after)
		do()
	})
}

func (j *modelJS) PublishMsg(ctx context.Context, msg *nats.Msg, _ ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	i, w := j.i, j.i.w
	i.reachable(msg)
	s, r := w.streamOf(msg.Subject), w.roll(i.name, "publish "+msg.Subject)
	msg = &nats.Msg{Subject: msg.Subject, Header: cloneHeader(msg.Header), Data: msg.Data}
	expected, what := msg.Header.Get(jetstream.ExpectedLastSubjSeqHeader), "publish "+short(msg.Subject)
	if expected != "" {
		what += " on " + expected
	}
	if w.work(r); ctx.Err() != nil {
		return nil, ctx.Err()
	}
	i.reachable(msg)
	switch w.fault(s, r) {
	case pending:
		code, text := jetstream.JSErrCodeStreamWrongLastSequenceConstant, "wrong last sequence"
		if expected == "" {
			code, text = streams.CodeWriteInProcess, "duplicate message id is in process"
		}
		w.note("%-8s  %s: pending", i.name, what)
		return nil, &jetstream.APIError{Code: 400, ErrorCode: code, Description: text}
	case refused:
		w.note("%-8s  %s: refused", i.name, what)
		return nil, unavailable(r)
	case neverArrives:
		w.note("%-8s  %s: never arrives", i.name, what)
		return nil, silence(ctx)
	case arrivesLate:
		w.note("%-8s  %s: silence", i.name, what)
		w.later(spread(r, time.Second, longestLate), func() {
			ack, err := w.apply(msg, false)
			w.note("%-8s  %s arrives late: %s", i.name, what, stored(ack, err))
			if err == nil && !ack.Duplicate {
				w.mu.Lock()
				w.late[msg.Subject[strings.LastIndexByte(msg.Subject, '.')+1:]] = true
				w.mu.Unlock()
			}
		})
		return nil, silence(ctx)
	case replyLost:
		ack, err := w.apply(msg, true)
		w.note("%-8s  %s: %s, and the reply is lost", i.name, what, stored(ack, err))
		return nil, silence(ctx)
	case well:
	}
	ack, err := w.apply(msg, true)
	w.note("%-8s  %s: %s", i.name, what, stored(ack, err))
	w.work(r)
	i.gate()
	if err != nil {
		return nil, err
	}
	return &ack, nil
}

// stored describes what became of a message.
func stored(ack jetstream.PubAck, err error) string {
	switch {
	case err != nil:
		return err.Error()
	case ack.Duplicate:
		return fmt.Sprintf("%d already", ack.Sequence)
	}
	return fmt.Sprint(ack.Sequence)
}

// reachable is the gate of a call that publishes. By design an instance that freezes
// between its last check and the socket, for longer than streams remember message ids,
// stores its outcome twice. The model leaves that out: such an instance dies.
func (i *instance) reachable(msg *nats.Msg) {
	if s, ok := within(i.frozen, time.Now()); ok && strings.HasPrefix(msg.Subject, "retry.outcome.") && s.to.Sub(s.from) > longestLate {
		i.die("before it tells of an outcome")
	}
	i.gate()
}

func (i *instance) die(why string) {
	i.w.note("%-8s  dies %s", i.name, why)
	i.dead.Store(true)
	i.cancel()
}

// work sleeps for the time that some work takes.
func (w *world) work(r *rand.Rand) { time.Sleep(spread(r, 50*time.Microsecond, 8*time.Millisecond)) }

func (j *modelJS) Stream(_ context.Context, name string) (jetstream.Stream, error) {
	j.i.gate()
	w := j.i.w
	s, r := w.stream(name), w.roll(j.i.name, "stream "+name)
	if w.fault(s, r) == refused {
		return nil, unavailable(r)
	}
	w.work(r)
	at := w.seen(s)
	w.mu.Lock()
	defer w.mu.Unlock()
	info := &jetstream.StreamInfo{Config: jetstream.StreamConfig{Name: name, Replicas: 3}}
	if w.elects {
		elected := s.elected
		info.Cluster = &jetstream.ClusterInfo{LeaderSince: &elected}
	}
	info.State.Msgs = uint64(len(s.matching(">", at)))
	for _, m := range s.all {
		if !m.at.After(at) {
			info.State.LastSeq = m.sequence
		}
	}
	return &modelHandle{i: j.i, name: name, info: info}, nil
}

// StreamNameBySubject answers for the stream of workers alone.
func (j *modelJS) StreamNameBySubject(ctx context.Context, subject string) (string, error) {
	j.i.gate()
	w := j.i.w
	s, r := w.streamOf(subject), w.roll(j.i.name, "stream of "+subject)
	if w.fault(s, r) == refused {
		return "", unavailable(r)
	}
	w.work(r)
	return events.Streams{}.Work(), ctx.Err()
}

// modelHandle is a stream for one instance.
type modelHandle struct {
	jetstream.Stream
	i    *instance
	name string
	info *jetstream.StreamInfo
}

func (h *modelHandle) CachedInfo() *jetstream.StreamInfo { return h.info }

func (h *modelHandle) Info(context.Context, ...jetstream.StreamInfoOpt) (*jetstream.StreamInfo, error) {
	h.i.gate()
	w := h.i.w
	w.mu.Lock()
	defer w.mu.Unlock()
	info := *h.info
	info.State.Subjects = make(map[string]uint64)
	for _, m := range w.streams[h.name].matching(">", time.Now()) {
		info.State.Subjects[m.subject]++
	}
	return &info, nil
}

func (h *modelHandle) DeleteMsg(ctx context.Context, sequence uint64) error {
	i, w := h.i, h.i.w
	i.gate()
	s, r := w.stream(h.name), w.roll(i.name, fmt.Sprint("delete ", h.name, sequence))
	w.work(r)
	i.gate()
	switch w.fault(s, r) {
	case refused, pending:
		return unavailable(r)
	case neverArrives:
		return silence(ctx)
	case arrivesLate:
		w.later(spread(r, time.Second, longestLate), func() { w.remove(h.name, sequence) })
		return silence(ctx)
	case replyLost:
		w.remove(h.name, sequence)
		return silence(ctx)
	case well:
	}
	ok := w.remove(h.name, sequence)
	w.note("%-8s  removes %s %d: %v", i.name, h.name, sequence, ok)
	i.gate()
	if !ok {
		return fmt.Errorf("%w: no message found", jetstream.ErrMsgDeleteUnsuccessful)
	}
	return nil
}

// modelBucket is the bucket of the lanes.
type modelBucket struct {
	jetstream.KeyValue
	js *modelJS
}

func (b *modelBucket) Bucket() string { return "RETRY_LANES" }

func (b *modelBucket) Put(ctx context.Context, key string, value []byte) (uint64, error) {
	ack, err := b.js.PublishMsg(ctx, &nats.Msg{Subject: "$KV.RETRY_LANES." + key, Data: value})
	if err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}

// modelMetrics count for all instances, because they are expensive to make.
var modelMetrics = sync.OnceValue(func() *telemetry.Metrics {
	m, err := telemetry.NewMetrics("model", "test")
	if err != nil {
		panic(err)
	}
	return m
})

// start starts an instance.
func (w *world) start(name string, policies *policy.Set, frozen, shut []span) *instance {
	i := &instance{w: w, name: name, frozen: frozen, shut: shut, draining: make(chan struct{})}
	i.ctx, i.cancel = context.WithCancel(context.Background())
	w.note("%-8s  starts", name)
	js := &modelJS{i: i}
	random := func() float64 { return w.roll(name, "random").Float64() }
	current := func() *policy.Set { return policies }
	log := slog.New(slog.DiscardHandler)
	clock, persister := natsconn.NewClock(nil), opstore.NewPersister(opstore.NewStorage(js, nil), log, random)
	keys := lanes.NewKeys(js, &modelBucket{js: js}, persister, lanes.KeysConfig{Reading: js, Rest: 24 * time.Hour, Log: log})
	var elections *opstore.Elections
	if w.elects {
		elections = opstore.NewElections(func(ctx context.Context) (*jetstream.StreamInfo, error) {
			s, err := js.Stream(ctx, events.Streams{}.Waiting())
			if err != nil {
				return nil, err
			}
			return s.CachedInfo(), nil
		}, time.Now, func() uint64 { return 0 })
	}
	st := opstore.New(js, persister, opstore.Config{Clock: clock, MaxPayload: 1 << 20, Lanes: keys, Elections: elections})
	letters := deadletter.New(js, "")
	var gates *scheduler.Gates // set before a breaker changes
	breakers := breaker.NewGroup(breaker.Config{Instance: name, Freed: keys.Changed, Changed: func(c breaker.Change) {
		gates.Changed(c)
		keys.BreakerChanged(c)
	}})
	gates = scheduler.NewGates(breakers, scheduler.GatesConfig{Opened: keys.Changed})
	held := lanes.New(keys, st, lanes.Config{
		Gates: gates, Policies: current, Now: clock.Now,
		Stranded: func(service, operation string) { w.note("%-8s  %s:%s is stranded", name, service, operation) },
	})
	work, err := newPublisher(js, opstore.InTurn{JetStream: js}, events.Subjects{}, streams.WorkConfig(events.Streams{}, streams.Limits{}), newDenials(log), log)
	if err != nil {
		panic(err)
	}
	pipeline := &scheduler.Pipeline{
		Policies: current, Store: st, Ends: opstore.NewRecovery(st, js, letters), Target: &modelTarget{i},
		Publisher: work,
		Gates:     gates, CheckTarget: events.Subjects{}.CheckTarget, Now: time.Now, Random: random, Draining: i.draining,
	}
	in := &submitHandler{pipeline: pipeline, letters: letters, metrics: modelMetrics(), maxPayload: 1 << 20, pending: func(uint64) {}}
	reports := &workReports{pipeline: pipeline, log: log, warn: rate.Sometimes{First: 1}}
	redeliver := &due{pipeline: pipeline, store: st, clock: clock, stream: "RETRY", letters: letters, draining: i.draining}

	i.pull("RETRY_INTAKE", "retry.submit.>", in.handle)
	i.pull("RETRY_INTAKE", "retry.report.>", reports.handle)
	i.pull("RETRY", "retry.due.>", redeliver.handle)
	i.owned.Go(func() { held.Run(i.ctx) })
	i.owned.Go(func() { i.shutGates(breakers) })
	return i
}

// shutGates holds the breakers of all keys open at times, so that their gates shut.
func (i *instance) shutGates(breakers *breaker.Group) {
	for _, s := range i.shut {
		for _, at := range []time.Time{s.from, s.to} {
			select {
			case <-i.ctx.Done():
				return
			case <-time.After(time.Until(at)):
			}
			i.gate()
			act := breakers.Reset
			if at.Equal(s.from) {
				act = breakers.Hold
			}
			for _, key := range modelKeys() {
				if _, err := act(i.ctx, key, breaker.Operator{}); err != nil {
					panic(err) // the breakers are this instance's own
				}
			}
		}
	}
}

// pull works on the messages of a consumer.
func (i *instance) pull(stream, filter string, handle pull.Handler) {
	limit := pull.NewLimit(1<<30, 1)
	p := pull.New(modelSource{i, i.w.consumer(stream, filter)}, handle, pull.Config{
		Conn: i.w.wire, Limit: limit, Bytes: pull.NewBytes(1 << 30), Later: pull.NewQueue(limit),
		Draining: i.draining, Log: slog.New(slog.DiscardHandler),
	})
	i.pulls.Go(func() { p.Run(i.ctx) })
}

// modelSource is a consumer as an instance pulls from it.
type modelSource struct {
	i *instance
	c *modelConsumer
}

func (s modelSource) Close()                                      {}
func (s modelSource) Stream() string                              { return s.c.stream }
func (s modelSource) Name() string                                { return s.c.filter }
func (s modelSource) Lease() time.Duration                        { return lease }
func (s modelSource) Made() time.Time                             { return time.Time{} }
func (s modelSource) Led() time.Time                              { return time.Time{} }
func (s modelSource) Look(context.Context) error                  { s.i.gate(); return nil }
func (s modelSource) Open(context.Context) (pull.Consumer, error) { return s, nil }

// Receive implements [pull.Consumer].
func (s modelSource) Receive(ctx context.Context, n int, take func(pull.Delivery, time.Time)) error {
	i, c := s.i, s.c
	for range n {
		began := time.Now()
		d, err := c.next(ctx, i)
		if err != nil {
			return err
		}
		r := i.w.roll(i.name, fmt.Sprint("deliver ", c.stream, d.m.sequence))
		asked := time.Now().Add(-min(time.Since(began), spread(r, 0, pullWait)))
		i.w.work(r)
		i.gate()
		take(&modelMsg{i: i, c: c, m: d.m, n: d.n}, asked)
	}
	return nil
}

// stop lets the instance drain, or die.
func (i *instance) stop(drain bool) {
	if drain {
		i.w.note("%-8s  drains", i.name)
		close(i.draining)
		return
	}
	i.die("suddenly")
}

// modelConsumer is a consumer of a work queue.
type modelConsumer struct {
	w      *world
	stream string
	filter string
	// pending are the deliveries that are not acknowledged, by sequence; guarded by
	// world.mu.
	pending map[uint64]*leased
}

// leased is a message that was delivered.
type leased struct {
	n     uint64
	until time.Time
}

type delivery struct {
	m *storedMsg
	n uint64
}

func (w *world) consumer(stream, filter string) *modelConsumer {
	w.mu.Lock()
	defer w.mu.Unlock()
	key := stream + " " + filter
	c := w.consumers[key]
	if c == nil {
		c = &modelConsumer{w: w, stream: stream, filter: filter, pending: make(map[uint64]*leased)}
		w.consumers[key] = c
	}
	return c
}

// next delivers the next message to an instance, unless it has been frozen for longer
// than a pull lasts.
func (c *modelConsumer) next(ctx context.Context, i *instance) (delivery, error) {
	for ctx.Err() == nil {
		now := time.Now()
		if s, ok := within(i.frozen, now); ok && now.Sub(s.from) > 2*pullWait {
			time.Sleep(time.Until(s.to))
			continue
		}
		c.w.mu.Lock()
		s := c.w.streams[c.stream]
		d, wait := c.pick(s, now)
		if d.m != nil {
			c.w.noteLocked("%-8s  gets %d %s, delivery %d", i.name, d.m.sequence, short(d.m.subject), d.n)
		}
		changed := s.changed
		c.w.mu.Unlock()
		if d.m != nil {
			return d, nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-changed:
			// Instances pull side by side, none of them always first.
			time.Sleep(spread(c.w.roll(i.name, "pull "+c.filter), 0, 2*time.Millisecond))
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
	return delivery{}, ctx.Err()
}

// pick returns the first message that can be delivered now, or how long to wait.
func (c *modelConsumer) pick(s *modelStream, now time.Time) (delivery, time.Duration) {
	wait := time.Hour
	if away, ok := within(s.away, now); ok {
		return delivery{}, away.to.Sub(now)
	}
	for _, m := range s.all {
		if !m.gone.IsZero() || !policy.Matches([]string{c.filter}, m.subject) {
			continue
		}
		p := c.pending[m.sequence]
		if p == nil {
			p = &leased{}
			c.pending[m.sequence] = p
		}
		if p.until.After(now) {
			wait = min(wait, p.until.Sub(now))
			continue
		}
		p.n++
		p.until = now.Add(lease)
		return delivery{m, p.n}, 0
	}
	return delivery{}, wait
}

// renew sets when the lease of a message is over.
func (c *modelConsumer) renew(m *storedMsg, until time.Time) {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	if p := c.pending[m.sequence]; p != nil {
		p.until = until
	}
	c.w.streams[c.stream].touch()
}

// modelMsg is a message that was delivered to an instance.
type modelMsg struct {
	i *instance
	c *modelConsumer
	m *storedMsg
	n uint64 // the delivery
}

// Metadata implements [pull.Delivery].
func (m *modelMsg) Metadata() (*jetstream.MsgMetadata, error) {
	return &jetstream.MsgMetadata{
		Sequence: jetstream.SequencePair{Stream: m.m.sequence}, NumDelivered: m.n, Timestamp: m.m.at, Stream: m.c.stream,
	}, nil
}

func (m *modelMsg) Subject() string      { return m.m.subject }
func (m *modelMsg) Headers() nats.Header { return m.m.header }
func (m *modelMsg) Data() []byte         { return m.m.data }

// Ack implements [pull.Delivery]. Nobody learns whether the acknowledgement arrives.
func (m *modelMsg) Ack() error {
	i, w := m.i, m.i.w
	i.gate()
	s, r := w.stream(m.c.stream), w.roll(i.name, fmt.Sprint("ack ", m.c.stream, m.m.sequence))
	what := fmt.Sprintf("acks %d %s unconfirmed", m.m.sequence, short(m.m.subject))
	arrives := func() { w.note("%-8s  %s: %v", i.name, what, w.remove(m.c.stream, m.m.sequence)) }
	switch f := w.fault(s, r); {
	case w.isHonest():
		arrives()
	case f == arrivesLate:
		w.later(spread(r, time.Second, longestLate), arrives)
	case f == well && !chance(r, 0.05):
		w.later(spread(r, 50*time.Microsecond, 8*time.Millisecond), arrives)
	default:
		w.note("%-8s  %s: lost", i.name, what)
	}
	return nil
}

func (m *modelMsg) InProgress() error {
	m.i.gate()
	m.c.renew(m.m, time.Now().Add(lease))
	return nil
}

func (m *modelMsg) Nak() error { return m.NakWithDelay(0) }

func (m *modelMsg) NakWithDelay(after time.Duration) error {
	m.i.gate()
	m.i.w.note("%-8s  gives back %d %s", m.i.name, m.m.sequence, short(m.m.subject))
	m.c.renew(m.m, time.Now().Add(after))
	return nil
}

// modelTarget is where attempts go.
type modelTarget struct{ i *instance }

// Deliver implements [scheduler.Target].
func (t *modelTarget) Deliver(ctx context.Context, op *events.Operation, _ scheduler.Message, a scheduler.Attempt) (scheduler.Reply, error) {
	i, w := t.i, t.i.w
	asked := time.Now()
	if asked.Before(op.Due) {
		w.blame("attempt %d of run %s begins %s before it is due", a.Number, short(op.Run()), op.Due.Sub(asked))
	}
	w.mu.Lock()
	w.latest = max(w.latest, asked.Sub(op.Due))
	w.mu.Unlock()
	i.gate()
	r := w.roll("target", fmt.Sprint(op.Run(), a.Number))
	if chance(r, 0.03) && !w.isHonest() {
		return scheduler.Reply{}, errInterrupted
	}
	w.reached(i.name, op.Run(), a.Number, a.Repeated, asked)
	took := spread(r, time.Millisecond, 300*time.Millisecond)
	if chance(r, 0.1) {
		took = a.Timeout
	}
	select {
	case <-time.After(took):
	case <-ctx.Done():
		i.gate()
		return scheduler.Reply{}, ctx.Err()
	}
	i.gate()
	reply := scheduler.Reply{Duration: took}
	switch {
	case w.isHonest():
	case chance(r, 0.03):
		return scheduler.Reply{}, errInterrupted
	case took == a.Timeout, chance(r, 0.45):
		reply.Failed, reply.Failure = true, policy.Failure{Code: "503", Message: "busy", Duration: took}
	}
	return reply, nil
}

// worker takes operations published for workers and may or may not report on them.
func (w *world) worker(ctx context.Context) {
	js := &modelJS{i: &instance{w: w, name: "worker"}}
	c := w.consumer("RETRY_WORK", "retry.work.>")
	var work sync.WaitGroup
	defer work.Wait()
	for {
		d, err := c.next(ctx, js.i)
		if err != nil {
			return
		}
		w.remove("RETRY_WORK", d.m.sequence)
		work.Go(func() { w.report(ctx, js, d.m) })
	}
}

func (w *world) report(ctx context.Context, js *modelJS, m *storedMsg) {
	h := m.header
	id, replay := h.Get(events.HeaderID), h.Get(events.HeaderReplay)
	if replay == "" {
		replay = "0"
	}
	var attempt int
	_, _ = fmt.Sscan(h.Get(events.HeaderAttempt), &attempt)
	w.reached("worker", id+"."+replay, attempt, h.Get(events.HeaderRepeated) != "", time.Now())
	r := w.roll("worker", fmt.Sprint(id, replay, attempt))
	results := []events.Result{events.Succeeded}
	if !w.isHonest() {
		results = [][]events.Result{
			{events.Succeeded},
			{events.Succeeded},
			{events.Failed},
			{events.Failed},
			{},
			{events.Working, events.Succeeded},
			{events.Failed, events.Failed},
			{events.Succeeded, events.Failed},
		}[r.IntN(8)]
	}
	for _, result := range results {
		select {
		case <-time.After(spread(r, time.Millisecond, 800*time.Millisecond)):
		case <-ctx.Done():
			return
		}
		report := &nats.Msg{Subject: h.Get(events.HeaderReport), Header: nats.Header{
			events.HeaderID: {id}, events.HeaderToken: {h.Get(events.HeaderToken)}, events.HeaderAttempt: {fmt.Sprint(attempt)}, events.HeaderResult: {string(result)},
		}}
		callCtx, cancel := context.WithTimeout(ctx, streams.CallTimeout)
		_, err := js.PublishMsg(callCtx, report)
		cancel()
		if errors.Is(err, context.Canceled) {
			return
		}
	}
}
