package breaker

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rebound-mq/rebound/internal/backoff"
	"github.com/rebound-mq/rebound/internal/notify"
)

const (
	// beatEvery is how often the store is pinged. A store that answers is pinged less
	// often, because every call notices its loss.
	beatEvery       = 250 * time.Millisecond
	sharedBeatEvery = 500 * time.Millisecond
	// batchDelay is how long a success may wait before it is sent.
	batchDelay = 50 * time.Millisecond
	// parallel is how many breakers talk to the store at once.
	parallel = 64
)

// sharing is a group's part in its store.
type sharing struct {
	resync notify.Signal // changes may have been missed
	kick   notify.Signal // urgent is not empty
	begun  notify.Signal // lazy was empty and is no longer

	attached atomic.Bool // new breakers are attached from the start

	delay atomic.Int64 // how long the store took to answer last, in nanoseconds

	mu           sync.Mutex // guards what follows
	status       Status
	epoch        string
	urgent, lazy []*Breaker // what has something to send
	rewatch      func()     // ends the watch under way

	beating sync.Mutex // one beat at a time
}

// urgency is how soon a breaker must send what it has.
type urgency uint8

const (
	idle urgency = iota
	lazily
	urgently
)

func (s *sharing) init() {
	s.resync, s.kick, s.begun = notify.NewSignal(), notify.NewSignal(), notify.NewSignal()
	s.status.Since = time.Now()
}

func (s *sharing) on() bool { return s.attached.Load() }

func (s *sharing) get() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// gone notes that the store is out of reach, and reports whether that is new.
func (s *sharing) gone(err error, now time.Time) (status Status, news bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	news = s.attached.Swap(false) || s.status.Err == nil
	if s.status.Shared {
		s.status.Since = now
	}
	s.status.Shared, s.status.Err = false, err
	return s.status, news
}

func (s *sharing) setRewatch(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rewatch = f
}

// watchAnew ends the watch under way, so that another begins. A store that was
// out of reach may have ended it without an error.
func (s *sharing) watchAnew() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rewatch != nil {
		s.rewatch()
	}
}

// regained notes that all breakers are attached, unless the store was lost meanwhile.
func (s *sharing) regained(now time.Time) (status Status, news bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.attached.Load() {
		return s.status, false, s.status.Err
	}
	news = !s.status.Shared || s.status.Err != nil
	if !s.status.Shared {
		s.status.Since = now
	}
	s.status.Shared, s.status.Err = true, nil
	return s.status, news, nil
}

// unwatched notes that the store cannot be watched, which the next rejoin mends.
func (s *sharing) unwatched(err error) (Status, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.status.Err != nil {
		return s.status, false
	}
	s.status.Err = err
	return s.status, true
}

// send queues the breaker, whose lock the caller has.
func (b *Breaker) send(urgent bool) {
	u := lazily
	if urgent {
		u = urgently
	}
	if b.queued >= u {
		return
	}
	b.queued = u
	b.group.share.enqueue(b, u)
}

func (s *sharing) enqueue(b *Breaker, u urgency) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u == lazily {
		if s.lazy = append(s.lazy, b); len(s.lazy) == 1 {
			s.begun.Set()
		}
		return
	}
	s.urgent = append(s.urgent, b)
	s.kick.Set()
}

// take empties the queue; without all, only of what is urgent.
func (s *sharing) take(all bool) []*Breaker {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := s.urgent
	s.urgent = nil
	if all {
		taken = append(taken, s.lazy...)
		s.lazy = nil
	}
	return taken
}

// Join reads the store once, so that what is open is known before the first
// attempt is made. After an error the group is alone, and [Group.Run] goes on
// trying.
func (g *Group) Join(ctx context.Context) error {
	if g.store == nil {
		return errNoStore
	}
	return g.beat(ctx)
}

// Run keeps the group and its store together until ctx ends: it sends results,
// follows changes, notices when the store is lost and joins again when it is
// back. Before it returns it sends what is left. Call it once.
func (g *Group) Run(ctx context.Context) {
	if g.store == nil {
		<-ctx.Done()
		return
	}
	var tasks sync.WaitGroup
	tasks.Go(func() { g.watch(ctx) })
	tasks.Go(func() { g.deliver(ctx) })
	tasks.Go(func() { g.keep(ctx) })
	tasks.Wait()
	g.flush(ctx, g.share.take(true))
}

// watch follows what other instances change.
func (g *Group) watch(ctx context.Context) {
	for ctx.Err() == nil {
		watching, stop := context.WithCancel(ctx)
		g.share.setRewatch(stop)
		err := g.store.Watch(watching, func() { g.share.resync.Set() }, func(c Circuit) { g.breaker(c.ServiceKey).see(c).deliver() })
		stopped := watching.Err() != nil
		stop()
		if stopped {
			continue
		}
		if status, news := g.share.unwatched(fmt.Errorf("breaker: watching the store: %w", err)); news {
			g.statusChanged(status)
		}
		backoff.Sleep(ctx, beatEvery)
	}
}

// deliver sends results: what is urgent at once, the rest in batches.
func (g *Group) deliver(ctx context.Context) {
	batch := time.NewTimer(batchDelay) // the first time in vain
	defer batch.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.share.begun:
			batch.Reset(batchDelay)
		case <-g.share.kick:
			g.flush(ctx, g.share.take(false))
		case <-batch.C:
			g.flush(ctx, g.share.take(true))
		}
	}
}

func (g *Group) flush(ctx context.Context, breakers []*Breaker) {
	// Calls are let finish when ctx ends, so that results count once and the last
	// ones are sent; they are bounded by their own patience.
	ctx = context.WithoutCancel(ctx)
	if len(breakers) == 1 {
		breakers[0].flush(ctx, g.now())
		return
	}
	var calls errgroup.Group
	calls.SetLimit(parallel)
	for _, b := range breakers {
		calls.Go(func() error {
			b.flush(ctx, g.now())
			return nil
		})
	}
	_ = calls.Wait() // none returns an error
}

// keep notices when the store goes and when it comes back.
func (g *Group) keep(ctx context.Context) {
	tick := time.NewTimer(beatEvery)
	defer tick.Stop()
	stale := false
	for {
		if err := g.beat(ctx); err == nil && stale {
			stale = g.rejoin(ctx) != nil
		}
		if g.share.on() && !stale {
			tick.Reset(sharedBeatEvery)
		} else {
			tick.Reset(beatEvery)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-g.share.resync:
			stale = true
		}
	}
}

// beat asks whether the store is there, and joins it when it was not before or
// was emptied.
func (g *Group) beat(ctx context.Context) error {
	g.share.beating.Lock()
	defer g.share.beating.Unlock()
	call, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	before := g.now()
	p, err := g.store.Ping(call)
	if err != nil {
		g.share.delay.Store(0)
		return g.lost(ctx, fmt.Errorf("breaker: reaching the store: %w", err))
	}
	after := g.now()
	g.share.delay.Store(int64(after.Sub(before)))
	g.setOffset(p, before, after)
	g.share.mu.Lock()
	same := g.share.epoch == p.Epoch
	g.share.epoch = p.Epoch
	g.share.mu.Unlock()
	if same && g.share.on() {
		return nil
	}
	return g.rejoin(ctx)
}

// Delay returns how long the store took to answer when it was asked last, at most
// half a second ago. It is 0 when the group has no store or the store is out of
// reach: then nobody waits for it.
func (g *Group) Delay() time.Duration { return time.Duration(g.share.delay.Load()) }

// setOffset learns by how much the store's clock differs. An error of half the
// round trip is in the measurement, so it is only replaced by one that is surely
// better.
func (g *Group) setOffset(p Pulse, before, after time.Time) {
	if p.Now.IsZero() {
		return
	}
	half := after.Sub(before) / 2
	offset := p.Now.Sub(before.Add(half))
	if d := offset - time.Duration(g.offset.Load()); d.Abs() > half+shortest {
		g.offset.Store(int64(offset))
	}
}

// rejoin brings all breakers and the store together.
func (g *Group) rejoin(ctx context.Context) error {
	call, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	circuits, err := g.store.Load(call)
	if err != nil {
		return g.lost(ctx, fmt.Errorf("breaker: reading the store: %w", err))
	}
	stored := make(map[string]*Circuit, len(circuits))
	for i := range circuits {
		stored[circuits[i].ServiceKey] = &circuits[i]
		g.breaker(circuits[i].ServiceKey)
	}
	g.share.attached.Store(true)
	calls, callCtx := errgroup.WithContext(ctx)
	calls.SetLimit(parallel)
	for _, b := range g.all() {
		calls.Go(func() error {
			b.flow <- struct{}{}
			notices, err := b.rejoin(callCtx, stored[b.key], g.now())
			<-b.flow
			deliverAll(notices)
			return err
		})
	}
	if err := calls.Wait(); err != nil {
		return g.lost(ctx, fmt.Errorf("breaker: joining the store: %w", err))
	}
	status, news, err := g.share.regained(g.now())
	if err != nil {
		return err
	}
	if news {
		g.share.watchAnew()
		g.statusChanged(status)
	}
	return nil
}

// lost goes on alone, unless it is ctx that ended, and returns the error.
func (g *Group) lost(ctx context.Context, err error) error {
	if ended := ended(ctx); ended != nil {
		return ended
	}
	deliverAll(g.lose(err, g.now()))
	return err
}

// lose lets every breaker go on alone. The caller delivers the notices once it
// holds no lock.
func (g *Group) lose(err error, now time.Time) []notice {
	status, news := g.share.gone(err, now)
	if !news {
		return nil
	}
	var notices []notice
	for _, b := range g.all() {
		notices = append(notices, b.detach(now)...)
	}
	g.statusChanged(status)
	return notices
}

func (g *Group) statusChanged(s Status) {
	if g.config.StatusChanged != nil {
		g.config.StatusChanged(s)
	}
}
