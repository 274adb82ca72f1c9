package breaker

import (
	"cmp"
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
	// checkEvery is how often the store is pinged while it is away. A store that answers is pinged
	// less often, because every call notices its loss.
	checkEvery       = 250 * time.Millisecond
	sharedCheckEvery = 500 * time.Millisecond
	// batchDelay bounds how long a success may wait to be sent.
	batchDelay = 50 * time.Millisecond
	// parallel bounds the concurrent calls of the store.
	parallel = 64
)

// sharing is the state of a group's connection to its store.
type sharing struct {
	resync       notify.Signal // changes may have been missed
	urgentQueued notify.Signal // urgent has become non-empty
	lazyQueued   notify.Signal // lazy has become non-empty

	attached atomic.Bool // whether new breakers start attached

	delay atomic.Int64 // the store's last response time, in nanoseconds

	mu           sync.Mutex // guards the fields below
	status       Status
	epoch        string
	urgent, lazy []*Breaker // breakers with something to send
	rewatch      func()     // ends the current watch

	checking sync.Mutex // one check at a time
}

// urgency is how soon a breaker must send.
type urgency uint8

const (
	idle urgency = iota
	lazily
	urgently
)

func (s *sharing) init() {
	s.resync, s.urgentQueued, s.lazyQueued = notify.NewSignal(), notify.NewSignal(), notify.NewSignal()
	s.status.Since = time.Now()
}

func (s *sharing) on() bool { return s.attached.Load() }

func (s *sharing) get() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// markLost records that the store is out of reach, and reports whether that is new.
func (s *sharing) markLost(err error, now time.Time) (status Status, isNew bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	isNew = s.attached.Swap(false) || s.status.Err == nil
	if s.status.Shared {
		s.status.Since = now
	}
	s.status.Shared, s.status.Err = false, err
	return s.status, isNew
}

func (s *sharing) setRewatch(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rewatch = f
}

// watchAnew ends the current watch, so that another begins. A store that was out of reach may
// have ended it without an error.
func (s *sharing) watchAnew() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rewatch != nil {
		s.rewatch()
	}
}

// markRegained records that all breakers are attached, unless the store was lost meanwhile.
func (s *sharing) markRegained(now time.Time) (status Status, isNew bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.attached.Load() {
		return s.status, false, s.status.Err
	}
	isNew = !s.status.Shared || s.status.Err != nil
	if !s.status.Shared {
		s.status.Since = now
	}
	s.status.Shared, s.status.Err = true, nil
	return s.status, isNew, nil
}

// markUnwatched records that the store cannot be watched, which the next rejoin resolves.
func (s *sharing) markUnwatched(err error) (Status, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.status.Err != nil {
		return s.status, false
	}
	s.status.Err = err
	return s.status, true
}

// send queues the breaker, with b.mu held.
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
			s.lazyQueued.Set()
		}
		return
	}
	s.urgent = append(s.urgent, b)
	s.urgentQueued.Set()
}

// take empties the queue, or with all false only its urgent part.
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

// Join reads the store once, so that open breakers are known before the first attempt. After an
// error the group is alone, and [Group.Run] keeps trying.
func (g *Group) Join(ctx context.Context) error {
	if g.store == nil {
		return errNoStore
	}
	return g.check(ctx)
}

// Learn reads the circuit of a key from a store that sends only those of keys in use, once the
// key is among these. It changes nothing for a key whose circuit is known already.
func (g *Group) Learn(ctx context.Context, key string) error {
	if g.store == nil {
		return errNoStore
	}
	call, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	circuits, err := g.store.Read(call, []string{key})
	if err != nil {
		return fmt.Errorf("breaker: reading the circuit of %s: %w", key, err)
	}
	for _, c := range circuits {
		g.breaker(key).see(c).deliver()
	}
	g.share.watchAnew()
	return nil
}

// Run keeps the group connected to its store until ctx ends: it sends results, receives changes,
// notices when the store is lost and joins it again when it is back. Before it returns it sends
// what is left. Call it at most once.
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

// watch receives the changes of other instances.
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
		if status, isNew := g.share.markUnwatched(fmt.Errorf("breaker: watching the store: %w", err)); isNew {
			g.statusChanged(status)
		}
		backoff.Sleep(ctx, cmp.Or(g.config.Check, checkEvery))
	}
}

// deliver sends results: urgent ones at once, the others in batches.
func (g *Group) deliver(ctx context.Context) {
	batch := time.NewTimer(batchDelay) // fires once with nothing to send
	defer batch.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.share.lazyQueued:
			batch.Reset(batchDelay)
		case <-g.share.urgentQueued:
			g.flush(ctx, g.share.take(false))
		case <-batch.C:
			g.flush(ctx, g.share.take(true))
		}
	}
}

func (g *Group) flush(ctx context.Context, breakers []*Breaker) {
	// Calls may finish after ctx ends, so that results count once and the last ones are sent;
	// each is bounded by storeTimeout.
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
	_ = calls.Wait() // no call returns an error
}

// keep notices when the store is lost and when it is back.
func (g *Group) keep(ctx context.Context) {
	tick := time.NewTimer(checkEvery)
	defer tick.Stop()
	stale := false
	for {
		if err := g.check(ctx); err == nil && stale {
			stale = g.rejoin(ctx) != nil
		}
		if g.share.on() && !stale {
			tick.Reset(cmp.Or(g.config.Check, sharedCheckEvery))
		} else {
			tick.Reset(cmp.Or(g.config.Check, checkEvery))
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

// check pings the store, and joins it if it was lost or emptied.
func (g *Group) check(ctx context.Context) error {
	g.share.checking.Lock()
	defer g.share.checking.Unlock()
	call, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	asked := g.now()
	p, err := g.store.Ping(call)
	if err != nil {
		g.share.delay.Store(0)
		return g.lost(ctx, fmt.Errorf("breaker: reaching the store: %w", err))
	}
	after := g.now()
	g.share.delay.Store(int64(after.Sub(asked)))
	g.setOffset(p, asked, after)
	g.share.mu.Lock()
	epoch, same := g.share.epoch, g.share.epoch == p.Epoch
	g.share.epoch = p.Epoch
	g.share.mu.Unlock()
	if same && g.share.on() {
		return nil
	}
	if err := g.rejoin(ctx); err != nil {
		return err
	}
	if !same && epoch != "" {
		g.share.watchAnew() // the watch is of a store that is gone, whether or not that was noticed
	}
	return nil
}

// Delay returns how long the store took to answer the last ping, which is at most half a second
// old. It is 0 if the group has no store or the store is out of reach, because then nobody waits
// for it.
func (g *Group) Delay() time.Duration { return time.Duration(g.share.delay.Load()) }

// setOffset measures the offset of the store's clock. The measurement may err by half the round
// trip, so it replaces the last one only if the difference is larger.
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

// rejoin reunites all breakers with the store.
func (g *Group) rejoin(ctx context.Context) error {
	call, cancel := context.WithTimeout(ctx, storeTimeout)
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
	status, isNew, err := g.share.markRegained(g.now())
	if err != nil {
		return err
	}
	if isNew {
		g.share.watchAnew()
		g.statusChanged(status)
	}
	return nil
}

// lost makes the group go on alone, unless ctx ended, and returns the error.
func (g *Group) lost(ctx context.Context, err error) error {
	if ended := ended(ctx); ended != nil {
		return ended
	}
	deliverAll(g.lose(err, g.now()))
	return err
}

// lose detaches every breaker. The caller delivers the notices once it holds no lock.
func (g *Group) lose(err error, now time.Time) []notice {
	status, isNew := g.share.markLost(err, now)
	if !isNew {
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
