package pull

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/internal/backoff"
	"github.com/rebound-mq/rebound/internal/natsconn"
	"github.com/rebound-mq/rebound/internal/parallel"
)

const (
	// MaxBatch is the most messages that one pull asks for.
	MaxBatch = 256
	// flushTimeout is how long to wait, at the end, for the server to receive the
	// acknowledgements.
	flushTimeout = 5 * time.Second
	// firstPause and longestPause bound the pauses after a failed pull.
	firstPause   = 50 * time.Millisecond
	longestPause = 2 * time.Second
	// firstReturn is the delay before a message that could not be handled is redelivered.
	// It grows with every delivery up to longestReturn.
	firstReturn   = 100 * time.Millisecond
	longestReturn = 5 * time.Second
	// lookEvery is how often at least the leader of a consumer is asked for while messages are
	// in flight, and lookTimeout how long it has to answer.
	lookEvery   = time.Second
	lookTimeout = 2 * time.Second
	// mostIdle is how many goroutines wait for another message.
	mostIdle = 4 * MaxBatch
)

// ErrGiveBack makes a [Handler]'s message be given back at once, for any instance to take.
var ErrGiveBack = errors.New("the message is given back")

// Handler works on a message until its next state is stored. Without an error the message
// is acknowledged; what is stored must make another delivery recognisable, because the
// acknowledgement may get lost. With [ErrGiveBack] the message is given back at once, and with
// any other error after a while.
type Handler func(ctx context.Context, m *Message) error

// Source is a [Puller]'s source of messages: a consumer that may have to be made.
type Source interface {
	// Stream and Name are the stream's and the consumer's names, and Lease is how long the
	// consumer waits for an acknowledgement.
	Stream() string
	Name() string
	Lease() time.Duration
	// Open makes the consumer, or brings it up to date.
	Open(ctx context.Context) (Consumer, error)
	// Close gives up what is still under way. Nothing is received after it.
	Close()
}

// Consumer is a consumer that exists.
type Consumer interface {
	// Made returns when the consumer was made.
	Made() time.Time
	// Led returns since when its leader leads, zero if it has none or that is not known.
	Led() time.Time
	// Look asks the leader, so that Made and Led return what is so now. After an error it is
	// not known who leads.
	Look(ctx context.Context) error
	// Receive pulls up to n messages until a while has passed, or ctx ends and it is sure
	// that nothing is under way. It hands each to take, together with when it was requested:
	// the server sent it later. It returns once nothing more can arrive, or an error. What then
	// arrives after all, one of the next calls hands out besides its own.
	Receive(ctx context.Context, n int, take func(m Delivery, asked time.Time)) error
}

// Config is what a [Puller] needs besides its source and its handler.
type Config struct {
	// Conn is the connection that delivers the messages, and Link tells whether it was up; one
	// of its own when nil.
	Conn *nats.Conn
	Link *natsconn.Link
	// Limit bounds how many messages are in flight, and Bytes their size. Pullers may
	// share them.
	Limit *Limit
	Bytes *Bytes
	// Later is where messages wait whose work can, nil if no handler uses [Later].
	Later *Queue
	// Missed is called when the consumer or its stream may be missing. It may be nil.
	Missed func()
	// Draining is closed when nothing more may be pulled.
	Draining <-chan struct{}
	Log      *slog.Logger
}

// Puller pulls the messages of one consumer and hands each to its handler in a goroutine. It
// pulls no more messages than its limit allows, so none grows old in a buffer. Their size is
// known only once they are here: a message for which no bytes are left waits in flight, with its
// lease renewed, and nothing more is pulled until it has its bytes. Its methods are safe for
// concurrent use.
type Puller struct {
	source Source
	handle Handler
	config Config

	handled    atomic.Uint64
	deliveries deliveries
	batch      batch // belongs to the goroutine that pulls

	mu       sync.Mutex // guards the fields up to unsure
	unacked  map[*Message]struct{}
	consumer Consumer // as last opened, nil before
	// answered is when the leader was last asked something that it answered.
	answered time.Time
	// unsure is whether another may lead the consumer by now, and deliver again what is in
	// flight: a pull has failed, or the leader did not answer, since it last did.
	unsure  bool
	working *parallel.Pool
	later   sync.WaitGroup
	pulled  chan struct{} // closed when nothing more is pulled
}

// New returns a puller of the source's messages.
func New(source Source, handle Handler, config Config) *Puller {
	if config.Link == nil {
		config.Link = natsconn.NewLink(config.Conn)
	}
	return &Puller{
		source: source, handle: handle, config: config,
		unacked: make(map[*Message]struct{}), pulled: make(chan struct{}), working: parallel.NewPool(mostIdle),
	}
}

// Stream returns the name of the stream.
func (p *Puller) Stream() string { return p.source.Stream() }

// Name returns the name of the consumer.
func (p *Puller) Name() string { return p.source.Name() }

// Handled returns how many messages were handled.
func (p *Puller) Handled() uint64 { return p.handled.Load() }

// Unacked returns how many messages are in flight.
func (p *Puller) Unacked() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.unacked)
}

// Delivered returns when the consumer was made and the latest sequence that it has
// delivered here, 0 when none yet.
func (p *Puller) Delivered() (made time.Time, sequence uint64) { return p.deliveries.reached() }

// DeliveredElsewhere records the latest sequence that the consumer that was made then has
// delivered to another instance.
func (p *Puller) DeliveredElsewhere(made time.Time, sequence uint64) {
	p.deliveries.hear(made, sequence)
}

// Ensure makes the consumer, or brings it up to date.
func (p *Puller) Ensure(ctx context.Context) error {
	_, err := p.source.Open(ctx)
	return err
}

// Run pulls until Draining is closed and returns when every message in flight is handled.
// ctx bounds the handling. It is called once.
func (p *Puller) Run(ctx context.Context) {
	pullCtx, stop := context.WithCancel(ctx)
	defer stop()
	var owned sync.WaitGroup
	owned.Go(func() {
		select {
		case <-p.config.Draining:
			stop()
		case <-pullCtx.Done():
		}
	})
	renewCtx, stopRenewing := context.WithCancel(ctx)
	owned.Go(func() { p.renew(renewCtx) })
	owned.Go(func() { p.watchLeader(renewCtx) })
	defer p.working.Wait() // also if this goroutine ends in the middle

	p.pull(pullCtx, ctx)
	p.source.Close()
	close(p.pulled)
	p.config.Later.hurry()
	p.working.Wait()
	p.later.Wait()
	p.flush(ctx)
	stop()
	stopRenewing()
	owned.Wait()
}

// pull pulls batch after batch.
func (p *Puller) pull(ctx, handleCtx context.Context) {
	var consumer Consumer
	retry := backoff.Backoff{First: firstPause, Longest: longestPause}
	for ctx.Err() == nil {
		var err error
		if consumer == nil {
			consumer, err = p.source.Open(ctx)
		}
		if err == nil {
			err = p.fetch(ctx, handleCtx, consumer)
		}
		if err == nil {
			retry.Reset()
			continue
		}
		if ctx.Err() != nil {
			return
		}
		consumer = nil
		p.failed(err)
		retry.Wait(ctx)
	}
}

// failed handles a failed pull. The consumer or its leader may be gone.
func (p *Puller) failed(err error) {
	p.setUnsure(true)
	if errors.Is(err, jetstream.ErrConsumerDeleted) || errors.Is(err, jetstream.ErrConsumerNotFound) {
		p.loseLeases()
	}
	if p.config.Missed != nil {
		p.config.Missed()
	}
	p.config.Log.Warn("pulling messages failed", "consumer", p.Name(), "error", err)
}

// fetch pulls one batch, no larger than the limit leaves.
func (p *Puller) fetch(ctx, handleCtx context.Context, consumer Consumer) error {
	permits := p.acquire(ctx)
	if permits == 0 {
		return nil
	}
	wanted, began := permits, time.Now()
	mark, _ := p.config.Link.Look()
	defer func() { p.config.Limit.release(permits) }()

	elsewhere, _ := p.learn(consumer)
	err := consumer.Receive(ctx, permits, func(msg Delivery, asked time.Time) {
		meta, err := msg.Metadata()
		if err != nil {
			p.config.Log.Error("a message has no metadata", "consumer", p.Name(), "error", err)
			return
		}
		m := &Message{
			msg: msg, meta: meta, puller: p, mark: mark, asked: asked, renewed: asked, late: asked.Before(began),
			forgotten: p.deliveries.forgotten(meta, elsewhere),
		}
		p.mu.Lock()
		p.unacked[m] = struct{}{}
		p.mu.Unlock()
		if !m.late {
			permits--
		}
		p.working.Go(func() { p.work(handleCtx, m) })
	})
	p.batch.had(wanted, wanted-permits, time.Since(began))
	p.config.Bytes.await(ctx)
	return err
}

// acquire waits until more may be in flight and takes permits for a pull. It returns how many
// it took, 0 if ctx ended first.
func (p *Puller) acquire(ctx context.Context) (permits int) {
	for {
		p.config.Later.await(ctx)
		permits = p.config.Limit.acquire(ctx, p.batch.most())
		if permits == 0 || ctx.Err() != nil || !p.config.Later.hasNoRoom() {
			return permits
		}
		p.config.Limit.release(permits) // those that gave them up have filled the queue
	}
}

// learn takes note of the consumer and its leader. It returns the latest sequence that the
// consumer is known to have delivered elsewhere, and whether it is sure who leads.
func (p *Puller) learn(consumer Consumer) (elsewhere uint64, sure bool) {
	elsewhere, changed, sure := p.deliveries.begin(consumer.Made(), consumer.Led())
	if changed {
		p.loseLeases()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.consumer = consumer
	p.unsure = p.unsure && !sure
	return elsewhere, sure
}

// watchLeader asks the leader of the consumer while messages are in flight. Pulls do not tell
// who leads: one that waits goes on at a new leader, and none is made while nothing more may be
// in flight. Nor does anything else tell that renewals arrive. A server without a cluster is its
// own leader, but may be reached by way of another.
func (p *Puller) watchLeader(ctx context.Context) {
	for backoff.Sleep(ctx, min(lookEvery, p.source.Lease()/6)) {
		p.mu.Lock()
		consumer, idle := p.consumer, len(p.unacked) == 0
		p.mu.Unlock()
		if idle || consumer == nil {
			continue
		}
		asked := time.Now()
		call, cancel := context.WithTimeout(ctx, lookTimeout)
		err := consumer.Look(call)
		cancel()
		switch {
		case err == nil:
			if _, sure := p.learn(consumer); sure {
				p.confirm(asked)
			}
		case !consumer.Led().IsZero():
			p.setUnsure(true)
		}
	}
}

func (p *Puller) setUnsure(unsure bool) {
	p.mu.Lock()
	p.unsure = unsure
	p.mu.Unlock()
}

// work handles one message once there are bytes left for it, and a permit if it came too late for
// that of its pull, and settles it with the server. It does so while the puller drains, too: a
// message that is given back counts as delivered before.
func (p *Puller) work(ctx context.Context, m *Message) {
	if m.late && p.config.Limit.acquire(ctx, 1) == 0 {
		p.settle(ctx, m, ErrGiveBack)
		return
	}
	size := p.config.Bytes.of(m)
	err := ErrGiveBack
	if p.config.Bytes.acquire(ctx, size) == nil {
		err = p.handle(ctx, m)
		if later := (*laterError)(nil); errors.As(err, &later) {
			// Many may wait, so this one's stack is left to another message for a small one.
			p.later.Go(func() { p.workLater(ctx, m, later.do) })
			return
		}
		p.config.Bytes.release(size)
		p.handled.Add(1)
	}
	p.settle(ctx, m, err)
	p.config.Limit.release(1)
}

// workLater does what is left of the work on a message once its turn comes. What came before
// may have been an attempt, so the message is given back only if ctx ends before.
func (p *Puller) workLater(ctx context.Context, m *Message, do func(context.Context) error) {
	err := ErrGiveBack
	if p.config.Later.enter(ctx) {
		defer p.config.Later.leave()
		err = do(ctx)
	}
	p.config.Bytes.release(p.config.Bytes.of(m))
	p.handled.Add(1)
	p.settle(ctx, m, err)
}

// settle acknowledges a message, or gives it back. Nobody waits for the server to confirm the
// acknowledgement: if it gets lost, the message is redelivered when its lease is over, and
// recognised.
func (p *Puller) settle(ctx context.Context, m *Message, err error) {
	p.mu.Lock()
	delete(p.unacked, m)
	p.mu.Unlock()
	switch {
	case err == nil:
		if err := m.msg.Ack(); err != nil {
			p.config.Log.Debug("an acknowledgement could not be sent", "subject", m.Subject(), "error", err)
		}
	case errors.Is(err, ErrGiveBack), ctx.Err() != nil:
		p.awaitPulled()
		p.giveBack(m, 0)
	default:
		p.config.Log.Warn("a message could not be handled and will be redelivered", "subject", m.Subject(), "deliveries", m.Deliveries(), "error", err)
		p.giveBack(m, min(time.Duration(m.Deliveries())*firstReturn, longestReturn))
	}
}

// awaitPulled waits, while the puller drains, until nothing more is pulled: a message
// given back before that might be delivered to the pull that is about to end.
func (p *Puller) awaitPulled() {
	select {
	case <-p.config.Draining:
		<-p.pulled
	default:
	}
}

// flush waits until the server has received the acknowledgements.
func (p *Puller) flush(ctx context.Context) {
	if p.Handled() == 0 || !p.config.Conn.IsConnected() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	if err := p.config.Conn.FlushWithContext(ctx); err != nil {
		p.config.Log.Debug("it is not known whether the last acknowledgements were received", "consumer", p.Name(), "error", err)
	}
}

// giveBack hands a message back to the server. If that fails, the server takes it back when
// the lease is over.
func (p *Puller) giveBack(m *Message, after time.Duration) {
	nak := m.msg.Nak
	if after > 0 {
		nak = func() error { return m.msg.NakWithDelay(after) }
	}
	if err := nak(); err != nil {
		p.config.Log.Debug("a message could not be given back", "subject", m.Subject(), "error", err)
	}
}
