package natspath

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/bench/compare"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/streams"
)

// roleBare is the service of the bare path.
const roleBare = "bare"

const (
	// parkFrom is the least delay that the server's schedules have to wait for, and held what is
	// waited for in memory then, as in Rebound.
	parkFrom, held = 500 * time.Millisecond, 400 * time.Millisecond
	// inFlight is how many messages the bare path may have in flight of each consumer.
	inFlight = 8192
)

// bare writes what Rebound writes for an operation, of the same size and to the same streams, and
// decides nothing: it is the least that these writes cost.
type bare struct {
	nc    *nats.Conn
	inbox string
	// operations counts those taken in, of which each has a name.
	operations int

	mu sync.Mutex // guards the fields below
	// replies counts the answers asked for, and waiting has what follows them.
	replies uint64
	waiting map[string]*pending
}

// pending is what is done once answers have come.
type pending struct {
	answers int
	then    func()
}

// serviceArguments configure a service of this program. Replicas is how many servers store each
// stream, and 0 means one.
type serviceArguments struct {
	URL      string
	Replicas int
}

// dial connects a service as its arguments say.
func dial(encoded json.RawMessage) (a serviceArguments, nc *nats.Conn, err error) {
	if err := json.Unmarshal(encoded, &a); err != nil {
		return a, nil, err
	}
	nc, err = nats.Connect(a.URL)
	return a, nc, err
}

// serveBare runs the service of the bare path.
func serveBare(ctx context.Context, encoded json.RawMessage) (any, compare.Answer, error) {
	a, nc, err := dial(encoded)
	if err != nil {
		return nil, nil, err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, nil, err
	}
	b := &bare{nc: nc, inbox: nats.NewInbox() + ".", waiting: make(map[string]*pending)}
	if _, err := nc.Subscribe(b.inbox+"*", b.answered); err != nil {
		return nil, nil, err
	}
	var names events.Streams
	for _, config := range streams.Configs(names, streams.Limits{Replicas: a.Replicas}) {
		if _, err := js.CreateStream(ctx, config); err != nil {
			return nil, nil, err
		}
	}
	subjects := events.Subjects(names)
	if err := consume(ctx, js, names.Intake(), subjects.Submissions(), b.place); err != nil {
		return nil, nil, err
	}
	return nil, nil, consume(ctx, js, names.Waiting(), subjects.AllDue(), b.attempt)
}

// consume handles the messages of a stream in the background.
func consume(ctx context.Context, js jetstream.JetStream, stream, filter string, handle jetstream.MessageHandler) error {
	c, err := js.CreateConsumer(ctx, stream, streams.Consumer("bench", filter, streams.Lease, inFlight))
	if err != nil {
		return err
	}
	_, err = c.Consume(handle, jetstream.PullMaxMessages(inFlight/4))
	return err
}

// place stores a submission as due or parked, and its event, before it acks.
func (b *bare) place(m jetstream.Msg) {
	b.operations++
	id := fmt.Sprintf("%032x", b.operations)
	msg := nats.NewMsg("retry.due.normal.bench.op." + id)
	msg.Data = m.Data()
	if after := m.Headers().Get(headerRetryAfter); after != "" {
		seconds, err := strconv.ParseFloat(after, 64)
		if err != nil {
			fail(err)
		}
		delay := time.Duration(seconds * float64(time.Second))
		msg.Header.Set(headerDue, strconv.FormatInt(time.Now().Add(delay).UnixNano(), 10))
		if delay >= parkFrom {
			msg.Header.Set("Nats-Schedule-Target", msg.Subject)
			msg.Subject = "retry.parked.normal.bench.op." + id
			msg.Header.Set("Nats-Schedule", "@at "+time.Now().Add(delay-held).UTC().Format(time.RFC3339Nano))
		}
	}
	msg.Header.Set("Nats-Expected-Last-Subject-Sequence", "0")
	msg.Header.Set("Nats-Expected-Last-Subject-Sequence-Subject", "retry.*.*.bench.op."+id)
	msg.Header.Set("Nats-Msg-Id", id+".0.submission")
	msg.Header.Set("Retry-State", state)
	event := b.event(id, "retry.event.retryScheduled.bench.op", ".0.1.retryScheduled", scheduled)
	b.request(func() { acked(m) }, msg, event)
}

// attempt asks the target once the operation is due, stores the outcome, and acks.
func (b *bare) attempt(m jetstream.Msg) {
	due := m.Headers().Get(headerDue)
	if due == "" {
		b.try(m)
		return
	}
	at, err := strconv.ParseInt(due, 10, 64)
	if err != nil {
		fail(err)
	}
	time.AfterFunc(time.Until(time.Unix(0, at)), func() { b.try(m) })
}

func (b *bare) try(m jetstream.Msg) {
	id := m.Subject()[len("retry.due.normal.bench.op."):]
	msg := b.event(id, target, ".attempt", nil)
	msg.Data = m.Data()
	b.request(func() {
		outcome := b.event(id, "retry.outcome.retrySuccess.bench.op", ".0.outcome", succeeded)
		b.request(func() { acked(m) }, outcome)
	}, msg)
}

// event returns a message with the headers of an event.
func (b *bare) event(id, subject, name string, data []byte) *nats.Msg {
	msg := nats.NewMsg(subject)
	msg.Data = data
	h := msg.Header
	h["Nats-Msg-Id"], h["ce-id"] = []string{id + name}, []string{id + name}
	h["Retry-Id"], h["ce-operationid"] = []string{id}, []string{id}
	for key, value := range eventHeaders {
		h[key] = value
	}
	return msg
}

// request publishes messages and calls then once all of them are answered.
func (b *bare) request(then func(), messages ...*nats.Msg) {
	b.mu.Lock()
	b.replies++
	number := strconv.FormatUint(b.replies, 36)
	b.waiting[number] = &pending{answers: len(messages), then: then}
	b.mu.Unlock()
	for _, msg := range messages {
		msg.Reply = b.inbox + number
		if err := b.nc.PublishMsg(msg); err != nil {
			fail(err)
		}
	}
}

func (b *bare) answered(m *nats.Msg) {
	if bytes.Contains(m.Data, []byte(`"error"`)) || m.Header.Get("Status") != "" {
		fail(fmt.Errorf("the server answers %s %v", m.Data, m.Header))
	}
	number := m.Subject[len(b.inbox):]
	b.mu.Lock()
	p := b.waiting[number]
	p.answers--
	last := p.answers == 0
	if last {
		delete(b.waiting, number)
	}
	b.mu.Unlock()
	if last {
		p.then()
	}
}

func acked(m jetstream.Msg) {
	if err := m.Ack(); err != nil {
		fail(err)
	}
}

// fail ends this process: what a measurement found after a failure says nothing.
func fail(err error) {
	fmt.Fprintln(os.Stderr, "bench:", err)
	os.Exit(1)
}
