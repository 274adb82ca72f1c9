package handlers

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/semaphore"

	"github.com/rebound-mq/rebound/internal/streams"
)

const (
	// fetchBatch is the most messages that one pull asks for.
	fetchBatch = 256
	// fetchWait is how long a pull waits for messages at most, drainWait how long for
	// those that are on their way when it ends.
	fetchWait = 5 * time.Second
	drainWait = time.Second
	// signOfLife is how often the server says that it knows of a pull which waits.
	// One of which it says nothing twice is given up.
	signOfLife = time.Second
)

// errRelease asks the queue to give the message back at once, for any instance
// to take.
var errRelease = errors.New("the message is given back")

// taken is a message that this instance has in hand, un-acknowledged.
type taken struct {
	jetstream.Msg
	meta *jetstream.MsgMetadata
	// beat is a moment since when the lease has not been renewed, for certain: when
	// the message was asked for, or the server told that it is being worked on.
	// lapsed is whether the lease may have been over once. Both are guarded by
	// queue.mu.
	beat       time.Time
	lapsed     bool
	reconnects uint64
	// forgotten is whether the consumer may have forgotten that it delivered the
	// message, see [course].
	forgotten bool
	q         *queue
}

// repeated reports whether the message may have been delivered before.
func (t *taken) repeated() bool { return t.forgotten || t.meta.NumDelivered > 1 }

// shared reports whether the server may have given the message to another instance
// as well: it came before, the server was out of reach for a while, or this instance
// stood still. What lay in a socket meanwhile says that it is delivered once.
func (t *taken) shared() bool {
	if t.repeated() || t.q.nc.Stats().Reconnects != t.reconnects || t.q.nc.Status() != nats.CONNECTED {
		return true
	}
	t.q.mu.Lock()
	defer t.q.mu.Unlock()
	return t.lapse(time.Now())
}

// lapse notes whether the lease may be over by the time that what is done now
// arrives: half of it is left for that. The caller has locked queue.mu.
func (t *taken) lapse(now time.Time) bool {
	t.lapsed = t.lapsed || elapsed(t.beat, now) > t.q.config.AckWait/2
	return t.lapsed
}

// elapsed is the time between two moments by the clock that went on more: the
// monotonic one stands still while a machine is suspended.
func elapsed(since, now time.Time) time.Duration {
	return max(now.Sub(since), now.Round(0).Sub(since.Round(0)))
}

// queue pulls the messages of one consumer, hands each to handle in a goroutine
// of its own, and acknowledges those that were handled. It pulls no more
// messages than it may have in hand, so none grows old in a buffer. Their bytes
// are known only once they are here: those for which there is no room wait in
// hand, their lease renewed, and nothing more is pulled until they have it.
type queue struct {
	nc       *nats.Conn
	stream   string
	config   jetstream.ConsumerConfig
	js       jetstream.JetStream
	inFlight *semaphore.Weighted // counts messages
	bytes    *semaphore.Weighted // counts their bytes
	maxBytes int64
	// batch is the most messages that one pull asks for; nil is [fetchBatch].
	batch func() int
	// missed is called when the consumer or its stream may be missing; nil is nobody.
	missed func()
	log    *slog.Logger
	// handle works on a message until its next state is stored. With a nil
	// error the message is acknowledged, with errRelease it is given back at
	// once, with any other it is given back after a while.
	handle func(ctx context.Context, t *taken) error

	// handled counts the messages that were worked on.
	handled atomic.Uint64
	course  course
	// appetite is of the goroutine that pulls.
	appetite appetite

	mu   sync.Mutex
	held map[*taken]struct{}
	wg   sync.WaitGroup
	// draining is closed when the queue is to end, pulled when it pulls no more.
	draining <-chan struct{}
	pulled   chan struct{}
}

// course follows what a consumer delivers for the first time, which it does in the
// order of the stream, whichever instance asks. A server that leads a consumer and is
// cut off delivers what its successor never hears of, and delivers for the first time
// again, often to another instance.
type course struct {
	mu     sync.Mutex // guards what follows
	made   time.Time  // when the consumer was made
	newest uint64     // the latest sequence that it has delivered here
	others uint64     // the latest that it has delivered to another instance, as that says
}

// begin takes note of the consumer and returns what it is known to have delivered to
// others, and whether it is another one than before.
func (c *course) begin(made time.Time) (others uint64, another bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !made.Equal(c.made) {
		another = !c.made.IsZero()
		c.made, c.newest, c.others = made, 0, 0
	}
	return c.others, another
}

// hear takes over what a consumer has delivered to another instance.
func (c *course) hear(made time.Time, sequence uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if made.Equal(c.made) {
		c.others = max(c.others, sequence)
	}
}

// reached returns when the consumer was made and what it has delivered last, 0 when
// nothing yet.
func (c *course) reached() (made time.Time, sequence uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.made, c.newest
}

// forgotten tells whether the consumer may have delivered a message before although
// it says that it does for the first time: the message is older than the consumer, or
// the consumer has gone back behind what it had delivered to others before it was
// asked for the message, or here.
func (c *course) forgotten(m *jetstream.MsgMetadata, others uint64) bool {
	if m.NumDelivered > 1 {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	back := m.Sequence.Stream < c.newest || m.Sequence.Stream <= others
	c.newest = max(c.newest, m.Sequence.Stream)
	return back || m.Timestamp.Before(c.made)
}

// run pulls until draining is closed and returns when every message in hand is
// handled. ctx bounds the handling.
func (q *queue) run(ctx context.Context, draining <-chan struct{}) {
	q.mu.Lock()
	q.held = make(map[*taken]struct{})
	q.mu.Unlock()
	q.draining, q.pulled = draining, make(chan struct{})
	pullCtx, stop := context.WithCancel(ctx)
	defer stop()
	var owned sync.WaitGroup
	owned.Go(func() {
		select {
		case <-draining:
			stop()
		case <-pullCtx.Done():
		}
	})
	beatCtx, stopBeat := context.WithCancel(ctx)
	owned.Go(func() { q.heartbeat(beatCtx) })

	q.pull(pullCtx, ctx)
	close(q.pulled)
	q.wg.Wait()
	stop()
	stopBeat()
	owned.Wait()
}

// pull fetches batch after batch.
func (q *queue) pull(ctx, handleCtx context.Context) {
	var consumer jetstream.Consumer
	backoff := shortestBackoff
	for ctx.Err() == nil {
		err := func() (err error) {
			if consumer == nil {
				if consumer, err = q.js.CreateOrUpdateConsumer(ctx, q.stream, q.config); err != nil {
					return err
				}
			}
			return q.fetch(ctx, handleCtx, consumer)
		}()
		if err == nil {
			backoff = shortestBackoff
			continue
		}
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, jetstream.ErrConsumerDeleted) || errors.Is(err, jetstream.ErrConsumerNotFound) {
			q.lapseAll()
		}
		consumer = nil
		if q.missed != nil {
			q.missed()
		}
		q.log.Warn("pulling messages failed", "consumer", q.config.Durable, "error", err)
		select {
		case <-time.After(backoff):
			backoff = min(2*backoff, longestBackoff)
		case <-ctx.Done():
		}
	}
}

// fetch pulls one batch, no larger than there is room for.
func (q *queue) fetch(ctx, handleCtx context.Context, consumer jetstream.Consumer) error {
	if err := q.inFlight.Acquire(ctx, 1); err != nil {
		return nil
	}
	most := q.appetite.most()
	if q.batch != nil {
		most = min(most, q.batch())
	}
	room := 1
	for room < most && q.inFlight.TryAcquire(1) {
		room++
	}
	asked, began := room, time.Now()
	defer func() { q.inFlight.Release(int64(room)) }()

	others, another := q.course.begin(consumer.CachedInfo().Created)
	if another {
		q.lapseAll()
	}
	err := q.receive(ctx, consumer, room, func(t *taken) {
		t.forgotten = q.course.forgotten(t.meta, others)
		room--
		q.wg.Go(func() {
			defer q.inFlight.Release(1)
			q.work(ctx, handleCtx, t)
		})
	})
	q.appetite.had(asked, asked-room, time.Since(began))
	if q.bytes.Acquire(ctx, 1) == nil {
		q.bytes.Release(1)
	}
	return err
}

// appetite is how many messages a pull asks for, so that it ends because they came, not
// because its time is over: in a cluster a server may still send to a pull that has just
// ended, and what it sends then comes again only when its lease is over. 0 is not known.
type appetite int

// most returns how many messages the next pull asks for at most.
func (a appetite) most() int {
	if a == 0 {
		return fetchBatch
	}
	return int(a)
}

// had takes note of how many messages a pull asked for and received, and how long it
// took.
func (a *appetite) had(asked, received int, took time.Duration) {
	switch {
	case received < asked:
		*a = appetite(max(received*3/4, 1))
	case took < fetchWait/4:
		*a = appetite(min(max(a.most(), 2*asked), fetchBatch))
	}
}

// receive pulls up to n messages in [fetchWait] or until ctx ends. What the server
// has sent by then is handed to take even so: it would not come again before the
// lease is over.
func (q *queue) receive(ctx context.Context, consumer jetstream.Consumer, n int, take func(*taken)) error {
	asked, reconnects := time.Now(), q.nc.Stats().Reconnects
	pull, err := consumer.Messages(jetstream.StopAfter(n), jetstream.PullMaxMessages(n),
		jetstream.PullExpiry(2*fetchWait), jetstream.PullHeartbeat(signOfLife))
	if err != nil {
		return err
	}
	defer pull.Stop()
	// Of what comes it is known only that it was sent after it was asked for.
	fetchCtx, cancel := context.WithTimeout(ctx, min(fetchWait, q.config.AckWait/4))
	defer cancel()
	wait := jetstream.NextContext(fetchCtx)
	for n > 0 {
		msg, err := pull.Next(wait)
		switch {
		case err == nil:
		case errors.Is(err, jetstream.ErrMsgIteratorClosed):
			return nil
		case fetchCtx.Err() != nil && errors.Is(err, fetchCtx.Err()):
			pull.Drain()
			wait = jetstream.NextMaxWait(drainWait)
			continue
		default:
			return err
		}
		n--
		meta, err := msg.Metadata()
		if err != nil {
			q.log.Error("a message has no metadata", "consumer", q.config.Durable, "error", err)
			continue
		}
		t := &taken{Msg: msg, meta: meta, beat: asked, reconnects: reconnects, q: q}
		q.mu.Lock()
		q.held[t] = struct{}{}
		q.mu.Unlock()
		take(t)
	}
	return nil
}

// work handles one message, once there is room for it, and settles it with the
// server. Room is waited for until pullCtx ends.
func (q *queue) work(pullCtx, ctx context.Context, t *taken) {
	size := min(int64(len(t.Data()))+1024, q.maxBytes)
	err := errRelease
	if q.bytes.Acquire(pullCtx, size) == nil {
		err = q.handle(ctx, t)
		q.bytes.Release(size)
		q.handled.Add(1)
	}
	q.mu.Lock()
	delete(q.held, t)
	q.mu.Unlock()
	switch {
	case err == nil:
		q.ack(ctx, t)
	case errors.Is(err, errRelease), ctx.Err() != nil:
		q.awaitPulled()
		q.giveBack(t.Msg, 0)
	default:
		q.log.Warn("a message could not be handled and comes again", "subject", t.Subject(), "deliveries", t.meta.NumDelivered, "error", err)
		q.giveBack(t.Msg, min(time.Duration(t.meta.NumDelivered)*100*time.Millisecond, 5*time.Second))
	}
}

// awaitPulled waits, while the queue drains, until it pulls no more: a message
// given back before that might be delivered to the pull that is about to end.
func (q *queue) awaitPulled() {
	select {
	case <-q.draining:
		<-q.pulled
	default:
	}
}

// ack acknowledges a message and waits for the server's word. An
// acknowledgement that gets lost makes the message come again, which is
// recognised then.
func (q *queue) ack(ctx context.Context, t *taken) {
	for range 3 {
		ackCtx, cancel := context.WithTimeout(ctx, streams.CallTimeout)
		err := t.DoubleAck(ackCtx)
		cancel()
		if err == nil || errors.Is(err, jetstream.ErrMsgAlreadyAckd) || ctx.Err() != nil {
			return
		}
		q.log.Warn("an acknowledgement was not confirmed", "subject", t.Subject(), "error", err)
	}
}

// giveBack hands a message back to the server. When that fails, the server
// takes it back by itself when the lease is over.
func (q *queue) giveBack(msg jetstream.Msg, after time.Duration) {
	nak := msg.Nak
	if after > 0 {
		nak = func() error { return msg.NakWithDelay(after) }
	}
	if err := nak(); err != nil {
		q.log.Debug("a message could not be given back", "subject", msg.Subject(), "error", err)
	}
}

// inHand returns how many messages the queue has in hand.
func (q *queue) inHand() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.held)
}

// heartbeat tells the server, well before the lease is over, that the messages
// in hand are being worked on.
func (q *queue) heartbeat(ctx context.Context) {
	every := q.config.AckWait / 12
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			for _, t := range q.stale(now, 2*every) {
				if err := t.InProgress(); err != nil {
					q.log.Debug("a heartbeat could not be sent", "subject", t.Subject(), "error", err)
					continue
				}
				q.mu.Lock()
				t.beat = now
				q.mu.Unlock()
			}
		}
	}
}

// lapseAll takes what is in hand for shared: the consumer that delivered it is gone, and
// the next one delivers it again.
func (q *queue) lapseAll() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for t := range q.held {
		t.lapsed = true
	}
}

// stale returns the messages in hand whose lease was not renewed for longer than
// that.
func (q *queue) stale(now time.Time, longer time.Duration) []*taken {
	q.mu.Lock()
	defer q.mu.Unlock()
	var stale []*taken
	for t := range q.held {
		if elapsed(t.beat, now) > longer {
			t.lapse(now)
			stale = append(stale, t)
		}
	}
	return stale
}
