package natspath

import (
	"context"
	"encoding/json"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/bench/compare"
	"github.com/rebound-mq/rebound/internal/streams"
)

// The services of the contenders that users could build from the server's own means.
const (
	roleNak       = "nak"
	roleSchedules = "schedules"
)

const (
	// plainStream has the operations of these contenders.
	plainStream = "BENCH"
	// nakPending is how many operations of "NakWithDelay" may wait: each is pending in the
	// consumer, since nothing else knows of it.
	nakPending = 2_000_000
	// leastDelay is the delay of an operation that comes back at once, as in Rebound.
	leastDelay = time.Millisecond
	// headerDelay is the delay that a submission asks for, in nanoseconds.
	headerDelay = "Bench-Delay"
)

// Nak is a plain JetStream consumer that gives back what fails, with a delay.
func Nak() compare.Contender {
	return compare.Contender{
		Name: "NakWithDelay",
		About: compare.About{
			Version:  "nats-server " + server.VERSION,
			Path:     "one stored message; its first delivery fails and is given back by NakWithDelay, the second becomes a NATS request to the target and a plain ack",
			Settings: "work queue, file storage, sync_interval 2m, MaxAckPending 2,000,000",
			Keeps:    "at least once, through kill -9",
			Lacks:    "an outcome that is kept, a mark on repeats, dead letters, breakers, budgets, priorities; what waits is in the consumer's state and in memory",
		},
		Start: func(ctx context.Context, dir string) (compare.Instance, error) {
			return startPlain(ctx, dir, roleNak, submitToNak)
		},
	}
}

// Schedules is the server's message schedules, with a consumer for what they fire.
func Schedules() compare.Contender {
	return compare.Contender{
		Name: "schedules alone",
		About: compare.About{
			Version:  "nats-server " + server.VERSION,
			Path:     "one message stored as a schedule; the server stores it again when it fires; it becomes a NATS request to the target and a plain ack",
			Settings: "work queue, file storage, sync_interval 2m; the server looks at its schedules each 250 ms",
			Keeps:    "at least once, through kill -9",
			Lacks:    "an outcome that is kept, further attempts, a mark on repeats, dead letters, breakers, budgets, priorities, punctuality",
		},
		Start: func(ctx context.Context, dir string) (compare.Instance, error) {
			return startPlain(ctx, dir, roleSchedules, submitSchedule)
		},
	}
}

// startPlain starts a server and a service of this program. What ends at the target has no outcome.
func startPlain(ctx context.Context, dir, role string, submit submission) (compare.Instance, error) {
	i := &instance{submit: submit, endsAtTarget: true}
	s, url, err := StartServer(ctx, dir)
	if err != nil {
		return nil, err
	}
	i.runs(compare.RoleServer, s)
	i.park = func(ctx context.Context, n, size int) error {
		if err := i.submitAll(ctx, compare.Load{Operations: n, Size: size, Delay: day}, submit); err != nil {
			return err
		}
		return i.givenBack(ctx, role, n)
	}
	return i.started(i.startService(ctx, role, serviceArguments{URL: url}, nil))
}

// givenBack waits until the service has given all operations back.
func (i *instance) givenBack(ctx context.Context, role string, n int) error {
	if role != roleNak {
		return nil
	}
	return await(ctx, time.Hour, func() (bool, error) {
		c, err := i.js.Consumer(ctx, plainStream, "bench")
		if err != nil {
			return false, err
		}
		info := c.CachedInfo()
		return info.NumPending == 0 && info.NumAckPending >= n, nil
	})
}

func submitToNak(_ int, payload []byte, delay time.Duration) *nats.Msg {
	return &nats.Msg{
		Subject: "nak.op", Data: payload,
		Header: nats.Header{headerDelay: {strconv.FormatInt(int64(max(delay, leastDelay)), 10)}},
	}
}

func submitSchedule(i int, payload []byte, delay time.Duration) *nats.Msg {
	at := time.Now().Add(max(delay, leastDelay)).UTC()
	// Each run has subjects of its own, since a schedule replaces another one on its subject.
	return &nats.Msg{
		Subject: "sched.wait." + strconv.Itoa(i) + "." + strconv.FormatInt(at.UnixNano(), 36), Data: payload,
		Header: nats.Header{"Nats-Schedule": {"@at " + at.Format(time.RFC3339Nano)}, "Nats-Schedule-Target": {"sched.due.op"}},
	}
}

// serveNak runs the service of "NakWithDelay".
func serveNak(ctx context.Context, encoded json.RawMessage) (any, compare.Answer, error) {
	p, err := connectPlain(ctx, encoded, jetstream.StreamConfig{Subjects: []string{"nak.>"}})
	if err != nil {
		return nil, nil, err
	}
	return nil, nil, p.consume(ctx, "nak.>", nakPending, func(m jetstream.Msg) {
		about, err := m.Metadata()
		if err != nil {
			fail(err)
		}
		if about.NumDelivered > 1 {
			p.try(m)
			return
		}
		delay, err := strconv.ParseInt(m.Headers().Get(headerDelay), 10, 64)
		if err != nil {
			fail(err)
		}
		if err := m.NakWithDelay(time.Duration(delay)); err != nil {
			fail(err)
		}
	})
}

// serveSchedules runs the service of "schedules alone".
func serveSchedules(ctx context.Context, encoded json.RawMessage) (any, compare.Answer, error) {
	p, err := connectPlain(ctx, encoded, jetstream.StreamConfig{Subjects: []string{"sched.>"}, AllowMsgSchedules: true})
	if err != nil {
		return nil, nil, err
	}
	return nil, nil, p.consume(ctx, "sched.due.>", inFlight, p.try)
}

// plain asks the target and acks.
type plain struct {
	nc    *nats.Conn
	js    jetstream.JetStream
	inbox string

	mu      sync.Mutex // guards the fields below
	replies uint64
	waiting map[string]jetstream.Msg
}

func connectPlain(ctx context.Context, encoded json.RawMessage, config jetstream.StreamConfig) (*plain, error) {
	_, nc, err := dial(encoded)
	if err != nil {
		return nil, err
	}
	p := &plain{nc: nc, inbox: nats.NewInbox() + ".", waiting: make(map[string]jetstream.Msg)}
	if p.js, err = jetstream.New(nc); err != nil {
		return nil, err
	}
	if _, err := nc.Subscribe(p.inbox+"*", p.answered); err != nil {
		return nil, err
	}
	config.Name, config.Retention, config.Storage = plainStream, jetstream.WorkQueuePolicy, jetstream.FileStorage
	_, err = p.js.CreateStream(ctx, config)
	return p, err
}

func (p *plain) consume(ctx context.Context, filter string, pending int, handle jetstream.MessageHandler) error {
	c, err := p.js.CreateConsumer(ctx, plainStream, streams.Consumer("bench", filter, streams.Lease, pending))
	if err != nil {
		return err
	}
	_, err = c.Consume(handle, jetstream.PullMaxMessages(inFlight/4))
	return err
}

// try asks the target, and acks once it has answered.
func (p *plain) try(m jetstream.Msg) {
	p.mu.Lock()
	p.replies++
	number := strconv.FormatUint(p.replies, 36)
	p.waiting[number] = m
	p.mu.Unlock()
	if err := p.nc.PublishMsg(&nats.Msg{Subject: target, Reply: p.inbox + number, Data: m.Data()}); err != nil {
		fail(err)
	}
}

func (p *plain) answered(answer *nats.Msg) {
	number := answer.Subject[len(p.inbox):]
	p.mu.Lock()
	m := p.waiting[number]
	delete(p.waiting, number)
	p.mu.Unlock()
	acked(m)
}
