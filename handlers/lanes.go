package handlers

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/scheduler"
	"github.com/rebound-mq/rebound/scheduler/gate"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

const (
	// sweepMost is how often an instance looks for held operations whose gate is
	// open: those of an instance that died.
	sweepMost = 10 * time.Second
	// paceEvery is how often the gate is asked for room, and slowestPace how often when
	// there was none for a while.
	paceEvery   = 20 * time.Millisecond
	slowestPace = 100 * time.Millisecond
	// patience is how long the next moment of the governor may be away to be waited for.
	patience = 2 * time.Second
	// lookEvery is how often a lane that was empty is looked at while others of the
	// key are let out.
	lookEvery = 2 * time.Second
	// releasers is how many operations of a key are let out at once.
	releasers = 64
	// looks is of how many keys at once it is asked whether their lanes are empty.
	looks = 64
)

// lanes lets held operations out once the gate of their key opens. While it is
// shut nothing is done for them. All instances do so side by side: each operation
// is let out by compare-and-set, so that it leaves its lane once.
type lanes struct {
	reading  jetstream.JetStream
	store    *store
	gates    *scheduler.Gates
	policies func() *policy.Set
	markers  *markers
	// forgetAfter is how long nothing must have been known of a key to be forgotten.
	forgetAfter time.Duration
	log         *slog.Logger
	warn        rate.Sometimes

	wake  chan struct{}       // full when there is something to look at
	looks *semaphore.Weighted // of what is asked about lanes that may be empty
	mu    sync.Mutex
	keys  map[string]*keyLanes // by key; guarded by mu
}

// keyLanes are the lanes of one key.
type keyLanes struct {
	service, operation string
	marker             marker

	// What follows is guarded by lanes.mu.
	look      bool      // there may be something to let out
	next      time.Time // when the gate is worth asking again; zero is when told
	releasing bool
	used      time.Time // when anybody asked for the key last

	// What follows is of the one that is releasing.
	turns  gate.Turns
	flow   outflow
	parked *earlier // what may be let out early, nil is not known
}

func (k *keyLanes) key() string { return events.Key(k.service, k.operation) }

// openLanes opens the bucket that names the keys with lanes, which is made when
// it is missing. A key of which nothing was known for as long as forgetAfter is
// forgotten.
func openLanes(ctx context.Context, st *store, reading jetstream.JetStream, replicas int, forgetAfter time.Duration, gates *scheduler.Gates, policies func() *policy.Set) (*lanes, error) {
	m, err := openMarkers(ctx, st, reading, replicas, forgetAfter)
	if err != nil {
		return nil, err
	}
	return &lanes{
		reading: reading, store: st, gates: gates, policies: policies, markers: m, forgetAfter: forgetAfter, log: st.log,
		warn: rate.Sometimes{First: 1, Interval: warnEvery}, wake: make(chan struct{}, 1),
		looks: semaphore.NewWeighted(looks), keys: make(map[string]*keyLanes),
	}, nil
}

// of returns the lanes of a key.
func (l *lanes) of(service, operation string) *keyLanes {
	key := events.Key(service, operation)
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.keys[key]
	if k == nil {
		k = &keyLanes{service: service, operation: operation, marker: marker{writing: semaphore.NewWeighted(1)}}
		l.keys[key] = k
	}
	k.used = time.Now()
	return k
}

// mark makes sure that every instance, now and later, knows that the key has
// lanes. It comes before an operation is held.
func (l *lanes) mark(ctx context.Context, service, operation string) error {
	return l.markers.put(ctx, l.of(service, operation))
}

// check has the lanes of a key looked at soon.
func (l *lanes) check(service, operation string) {
	k := l.of(service, operation)
	l.mu.Lock()
	k.look = true
	l.mu.Unlock()
	l.signal()
}

// changed has the lanes of a key looked at if it is known to have some. It is
// quick.
func (l *lanes) changed(key string) {
	l.mu.Lock()
	k := l.keys[key]
	if k != nil {
		k.look = true
	}
	l.mu.Unlock()
	if k != nil {
		l.signal()
	}
}

func (l *lanes) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// run lets out what may go, until ctx ends.
func (l *lanes) run(ctx context.Context) {
	var tasks sync.WaitGroup
	defer tasks.Wait()
	tasks.Go(func() { l.sweeps(ctx) })
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		open, next := l.open(l.store.clock.Now())
		for _, k := range open {
			tasks.Go(func() { l.letOut(ctx, k) })
		}
		timer.Reset(next)
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-l.wake:
		}
	}
}

// open returns the keys that are to be looked at and whose gate is open, and how
// long to wait for the next that may open by itself.
func (l *lanes) open(now time.Time) (open []*keyLanes, wait time.Duration) {
	const shortest = 10 * time.Millisecond
	wait = sweepMost
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range l.keys {
		timeIsUp := !k.next.IsZero() && !now.Before(k.next)
		if !k.releasing && (k.look || timeIsUp) {
			k.look, k.next = false, time.Time{}
			// Critical operations may go when no others may.
			if room := l.room(k, events.Critical, now); !room.Shut {
				k.releasing = true
				open = append(open, k)
			} else {
				k.next = room.Next
			}
		}
		if !k.next.IsZero() {
			wait = min(wait, max(k.next.Sub(now), shortest))
		}
	}
	return open, wait
}

func (l *lanes) policy(k *keyLanes) *policy.Policy {
	policy := l.policies().Resolve(policy.Query{Service: k.service, Operation: k.operation})
	return &policy
}

func (l *lanes) room(k *keyLanes, p events.Priority, now time.Time) scheduler.Quota {
	return l.gates.Quota(l.policy(k), k.service, k.operation, p, now)
}

// letOut lets the lanes of a key out for as long as its gate is open and they are
// not empty.
func (l *lanes) letOut(ctx context.Context, k *keyLanes) {
	next, err := l.drain(ctx, k)
	again := false
	if err != nil && ctx.Err() == nil {
		l.warn.Do(func() {
			l.log.Warn("held operations could not be let out; it is tried again", "key", k.key(), "error", err)
		})
		pause(ctx, longestBackoff)
		again = true
	}
	l.mu.Lock()
	k.releasing, k.next = false, next
	k.look = k.look || again
	l.mu.Unlock()
	l.signal()
}

// drain lets operations out by priority and age, never more than the gate has
// room for, so that a target that is slow, or that has just healed, sets the pace.
// It returns when to look again: zero is when told, as every sweep tells for a key
// that is marked. When the lanes are empty, what is parked for no reason any more
// follows.
func (l *lanes) drain(ctx context.Context, k *keyLanes) (next time.Time, err error) {
	// As a rule there is nothing, and one question tells.
	switch empty, err := l.empty(ctx, k); {
	case err != nil:
		return next, err
	case empty:
		return l.emptied(ctx, k)
	}
	if err := l.markers.remark(ctx, k); err != nil {
		return next, err
	}
	k.flow.begin(l.store.clock.Now())
	idle := paceEvery
	var all [len(events.Priorities)]pages
	for _, p := range events.Priorities {
		all[p] = l.pages(l.store.subjects.Lane(p, k.service, k.operation))
	}
	for ctx.Err() == nil {
		held, err := readAhead(ctx, &all, k.flow.window)
		if err != nil {
			return next, err
		}
		l.gates.SetHeld(k.service, k.operation, held.total())
		if held.total() == 0 {
			return l.emptied(ctx, k)
		}
		now := l.store.clock.Now()
		room := l.room(k, events.Normal, now)
		if room.Cause == gate.CauseBackpressure {
			if critical := held[events.Critical]; critical > 0 {
				room, held = l.room(k, events.Critical, now), lengths{events.Critical: critical}
			}
		}
		if room.Shut {
			wait := room.Next.Sub(now)
			if room.Cause != gate.CauseGovernor || wait <= 0 || wait >= patience {
				return room.Next, nil
			}
			pause(ctx, wait) // what was read is of use then
			continue
		}
		n := k.flow.allows(room, now)
		if n <= 0 {
			pause(ctx, idle)
			idle = min(2*idle, slowestPace)
			continue
		}
		idle = paceEvery
		var each lengths
		each, k.turns = k.turns.Split(held, n)
		moved, err := l.release(ctx, each, &all)
		k.flow.released(moved, l.store.clock.Now())
		if err != nil {
			return next, err
		}
	}
	return next, nil
}

// empty tells whether the lanes of a key seem to be empty. Any replica answers, which
// may not know yet of what was just held.
func (l *lanes) empty(ctx context.Context, k *keyLanes) (bool, error) {
	if err := l.looks.Acquire(ctx, 1); err != nil {
		return false, err
	}
	defer l.looks.Release(1)
	n, err := l.count(ctx, l.store.subjects.Lanes(k.service, k.operation))
	return n == 0, err
}

// emptied goes on with a key whose lanes seem to be empty: its marker goes after a
// while, and what is parked may follow early.
func (l *lanes) emptied(ctx context.Context, k *keyLanes) (next time.Time, err error) {
	l.gates.SetHeld(k.service, k.operation, 0)
	if err := l.unmark(ctx, k); err != nil {
		return next, err
	}
	return l.early(ctx, k)
}

// lengths are how many operations the lanes of a key hold, by priority.
type lengths [len(events.Priorities)]int

func (n lengths) total() int {
	total := 0
	for _, k := range n {
		total += k
	}
	return total
}

// readAhead reads of every lane of which nothing is left in hand, twice a window
// at once, and returns how long the lanes are. A lane that was empty is looked at
// again after a while, and once more when all are.
func readAhead(ctx context.Context, all *[len(events.Priorities)]pages, window int) (held lengths, err error) {
	now := time.Now()
	for _, since := range []time.Time{now.Add(-lookEvery), now} {
		for i := range all {
			p := &all[i]
			if len(p.page) == 0 && (p.rest > 0 || p.read.Before(since)) {
				if err := p.advance(ctx, 2*window); err != nil {
					return held, err
				}
			}
			held[i] = p.length()
		}
		if held.total() > 0 {
			break
		}
	}
	return held, nil
}

func (l *lanes) count(ctx context.Context, subject string) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	return streams.Count(ctx, l.reading, l.store.streams.Waiting(), subject)
}

// release lets out so many operations of each priority, those that were held
// first, as far as they are in hand. It returns how many left their lane.
func (l *lanes) release(ctx context.Context, each lengths, all *[len(events.Priorities)]pages) (int, error) {
	out := 0
	for _, p := range events.Priorities {
		page := all[p].take(each[p])
		if len(page) == 0 {
			continue
		}
		moved, err := l.move(ctx, page)
		if err != nil {
			return out, err
		}
		if out += moved; moved < len(page) {
			// Another instance lets out the same page; this one goes on with the next.
			all[p].drop()
		}
	}
	return out, nil
}

// move lets held operations out and returns how many it let out. When the store
// refuses all of them, either another instance was faster or they are left-overs,
// which would be in the way for ever.
func (l *lanes) move(ctx context.Context, page []*jetstream.RawStreamMsg) (moved int, err error) {
	var refused atomic.Int64
	var group errgroup.Group
	group.SetLimit(releasers)
	began := time.Now()
	for _, m := range page {
		group.Go(func() error {
			err := l.store.release(ctx, m, began)
			if errors.Is(err, scheduler.ErrMoved) {
				refused.Add(1)
				return nil
			}
			return err
		})
	}
	err = group.Wait()
	moved = len(page) - int(refused.Load())
	if err != nil || moved > 0 {
		return moved, err
	}
	for _, m := range page {
		if removed, err := l.store.clear(ctx, m); err != nil || !removed {
			return 0, err
		}
	}
	return 0, nil
}

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
