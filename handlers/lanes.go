package handlers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
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
)

const (
	// sweepEvery is how often an instance looks for held operations whose gate is
	// open: those of an instance that died.
	sweepEvery = 10 * time.Second
	// firstWindow and lastWindow bound how many due operations of a key there may
	// be while its lanes are let out. The window doubles whenever as many
	// operations were let out as it holds.
	firstWindow = 8
	lastWindow  = 1024
	// paceEvery is how often it is looked whether there is room in the window, and
	// slowestPace how often when there was none for long.
	paceEvery   = 20 * time.Millisecond
	slowestPace = 250 * time.Millisecond
	// lookEvery is how often a lane that was empty is looked at while others of the
	// key are let out.
	lookEvery = 2 * time.Second
	// releasers is how many operations are let out at once.
	releasers = 64
)

// lanes lets held operations out once the gate of their key opens. While it is
// shut nothing is done for them. All instances do so side by side: each operation
// is let out by compare-and-set, so that it leaves its lane once.
type lanes struct {
	reading  jetstream.JetStream
	store    *store
	gates    *scheduler.Gates
	policies func() *scheduler.Set
	bucket   jetstream.KeyValue
	log      *slog.Logger
	warn     rate.Sometimes

	wake chan struct{} // full when there is something to look at
	mu   sync.Mutex
	keys map[string]*keyLanes // by key; guarded by mu
}

// keyLanes are the lanes of one key.
type keyLanes struct {
	service, operation string

	marking *semaphore.Weighted
	marked  bool // the bucket names the key; guarded by marking

	// What follows is guarded by lanes.mu.
	look      bool      // there may be something to let out
	next      time.Time // when the gate is worth asking again; zero is when told
	releasing bool

	turns gate.Turns // of the one that is releasing
}

// openLanes opens the bucket that names the keys with lanes, which is made when
// it is missing.
func openLanes(ctx context.Context, st *store, reading jetstream.JetStream, replicas int, gates *scheduler.Gates, policies func() *scheduler.Set) (*lanes, error) {
	bucket, err := streams.Bucket(ctx, st.js, jetstream.KeyValueConfig{
		Bucket: st.streams.LanesBucket(), Description: "Rebound: the keys that have lanes", Storage: jetstream.FileStorage, Replicas: max(replicas, 1),
	})
	if err != nil {
		return nil, err
	}
	return &lanes{
		reading: reading, store: st, gates: gates, policies: policies, bucket: bucket, log: st.log,
		warn: rate.Sometimes{First: 1, Interval: warnEvery}, wake: make(chan struct{}, 1), keys: make(map[string]*keyLanes),
	}, nil
}

// of returns the lanes of a key.
func (l *lanes) of(service, operation string) *keyLanes {
	key := events.Key(service, operation)
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.keys[key]
	if k == nil {
		k = &keyLanes{service: service, operation: operation, marking: semaphore.NewWeighted(1)}
		l.keys[key] = k
	}
	return k
}

// mark makes sure that every instance, now and later, knows that the key has
// lanes. It comes before the first operation is held.
func (l *lanes) mark(ctx context.Context, service, operation string) error {
	k := l.of(service, operation)
	if err := k.marking.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("naming the lanes of %s: %w", events.Key(service, operation), err)
	}
	defer k.marking.Release(1)
	if k.marked {
		return nil
	}
	err := l.store.persist(ctx, "naming the lanes of "+events.Key(service, operation), func(ctx context.Context) error {
		_, err := l.bucket.Put(ctx, service+"."+operation, nil)
		return err
	})
	k.marked = err == nil
	return err
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
	var releasing sync.WaitGroup
	defer releasing.Wait()
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	l.sweep(ctx)
	for {
		open, next := l.open(l.store.clock.Now())
		for _, k := range open {
			releasing.Go(func() { l.letOut(ctx, k) })
		}
		timer.Reset(next)
		select {
		case <-ctx.Done():
			return
		case <-sweep.C:
			l.sweep(ctx)
		case <-timer.C:
		case <-l.wake:
		}
	}
}

// sweep has all lanes of all instances looked at.
func (l *lanes) sweep(ctx context.Context) {
	keys, err := l.named(ctx)
	if err != nil && ctx.Err() == nil {
		l.warn.Do(func() { l.log.Warn("the keys that have lanes could not be read; it is tried again", "error", err) })
	}
	for _, key := range keys {
		service, operation, ok := strings.Cut(key, ".")
		if ok && events.CheckName(service) == nil && events.CheckName(operation) == nil {
			l.of(service, operation)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range l.keys {
		k.look = true
	}
}

// named returns the keys that the bucket names, as service.operation.
func (l *lanes) named(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	stream, err := l.reading.Stream(ctx, "KV_"+l.bucket.Bucket())
	if err != nil {
		return nil, err
	}
	prefix := "$KV." + l.bucket.Bucket() + "."
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(prefix+">"))
	if err != nil {
		return nil, err
	}
	keys := make([]string, 0, len(info.State.Subjects))
	for subject := range info.State.Subjects {
		keys = append(keys, strings.TrimPrefix(subject, prefix))
	}
	return keys, nil
}

// open returns the keys that are to be looked at and whose gate is open, and how
// long to wait for the next that may open by itself.
func (l *lanes) open(now time.Time) (open []*keyLanes, wait time.Duration) {
	const shortest = 10 * time.Millisecond
	wait = sweepEvery
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range l.keys {
		timeIsUp := !k.next.IsZero() && !now.Before(k.next)
		if !k.releasing && (k.look || timeIsUp) {
			k.look, k.next = false, time.Time{}
			// Critical operations may go when no others may.
			if room := l.room(k, events.Critical, now); room.Due > 0 {
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

func (l *lanes) policy(k *keyLanes) *scheduler.Policy {
	policy := l.policies().Resolve(scheduler.Query{Service: k.service, Operation: k.operation})
	return &policy
}

func (l *lanes) room(k *keyLanes, p events.Priority, now time.Time) scheduler.Room {
	return l.gates.Room(l.policy(k), k.service, k.operation, p, now)
}

// letOut lets the lanes of a key out for as long as its gate is open and they are
// not empty.
func (l *lanes) letOut(ctx context.Context, k *keyLanes) {
	again := false
	if err := l.drain(ctx, k); err != nil && ctx.Err() == nil {
		l.warn.Do(func() {
			l.log.Warn("held operations could not be let out; it is tried again", "key", events.Key(k.service, k.operation), "error", err)
		})
		pause(ctx, longestBackoff)
		again = true
	}
	l.mu.Lock()
	k.releasing = false
	k.look = k.look || again
	l.mu.Unlock()
	l.signal()
}

// drain lets operations out by priority and age, never more than the gate has
// room for and than fit into the window. The due operations of the key, in hand
// or not, of all instances, fill the window, so that a target that is slow, or
// that has just healed, sets the pace. When the lanes are empty, what is parked
// for no reason any more follows.
func (l *lanes) drain(ctx context.Context, k *keyLanes) error {
	// As a rule there is nothing, and one question tells.
	switch n, err := l.count(ctx, l.store.subjects.Lanes(k.service, k.operation)); {
	case err != nil:
		return err
	case n == 0:
		l.gates.SetHeld(k.service, k.operation, 0)
		return l.early(ctx, k)
	}
	window, out, idle := firstWindow, 0, paceEvery
	var all [len(events.Priorities)]pages
	for _, p := range events.Priorities {
		all[p] = l.pages(l.store.subjects.Lane(p, k.service, k.operation))
	}
	for ctx.Err() == nil {
		held, err := readAhead(ctx, &all, window)
		if err != nil {
			return err
		}
		l.gates.SetHeld(k.service, k.operation, held.total())
		if held.total() == 0 {
			return l.early(ctx, k)
		}
		room := l.room(k, events.Normal, l.store.clock.Now())
		if room.Cause == gate.CauseBackpressure {
			if critical := held[events.Critical]; critical > 0 {
				room, held = l.room(k, events.Critical, l.store.clock.Now()), lengths{events.Critical: critical}
			}
		}
		if room.Due == 0 {
			l.mu.Lock()
			k.next = room.Next
			l.mu.Unlock()
			return nil
		}
		due, err := l.due(ctx, k)
		if err != nil {
			return err
		}
		n := min(room.Due, window) - due
		if n <= 0 {
			pause(ctx, idle)
			idle = min(2*idle, slowestPace)
			continue
		}
		idle = paceEvery
		var each lengths
		each, k.turns = k.turns.Split(held, n)
		moved, err := l.release(ctx, each, &all)
		if err != nil {
			return err
		}
		if out += moved; out >= window {
			window, out = min(2*window, lastWindow), 0
		}
	}
	return nil
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

// due returns how many operations of a key are due, in hand or not.
func (l *lanes) due(ctx context.Context, k *keyLanes) (int, error) {
	n, err := l.count(ctx, l.store.subjects.DueOfKey(k.service, k.operation))
	return int(n), err
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
	for _, m := range page {
		group.Go(func() error {
			err := l.store.release(ctx, m)
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
