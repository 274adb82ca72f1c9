package lanes

import (
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/backoff"
	"github.com/rebound-mq/rebound/internal/opstore"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/scheduler"
	"github.com/rebound-mq/rebound/scheduler/gate"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

const (
	// sweepEvery is how often at least the bucket is read for keys that other instances
	// marked, which may have died since.
	sweepEvery = 10 * time.Second
	// pollEvery is how often the gate is asked at first while it lets nothing through; it
	// slows down to pollSlowest.
	pollEvery   = 20 * time.Millisecond
	pollSlowest = 100 * time.Millisecond
	// patience bounds the wait for the next slot of a governor or a trickle with the pages in
	// hand.
	patience = 2 * time.Second
	// lookEvery is how often an empty lane is read again while other lanes of its key are
	// let out.
	lookEvery = 2 * time.Second
	// maxLooks bounds the parallel requests whether lanes are empty.
	maxLooks = 64
	// recheckAfter is how long after an operation was held lanes that seem empty are read
	// again.
	recheckAfter = time.Second
	// failedPause is the pause after a failure to let a key out.
	failedPause = 2 * time.Second
	// warnEvery is how often failures that are retried are logged.
	warnEvery = time.Minute
)

// Lanes lets held operations out once the gate of their key opens. All instances do so
// side by side: each operation is let out by compare-and-set, so that it leaves its lane
// once.
type Lanes struct {
	*Keys
	store    *opstore.Store
	gates    *scheduler.Gates
	policies func() *policy.Set
	now      func() time.Time
	stranded func(service, operation string)
	warn     rate.Sometimes
	// warnStranded is apart from warn, so that neither hides the other.
	warnStranded rate.Sometimes
	looks        *semaphore.Weighted // bounds the requests about lanes that may be empty
}

// Config configures [Lanes]. All of it is required.
type Config struct {
	Gates *scheduler.Gates
	// Policies returns those in force.
	Policies func() *policy.Set
	// Now is the server's time.
	Now func() time.Time
	// Stranded is called with a key that held operations although its gate was open.
	Stranded func(service, operation string)
}

// New returns the lanes of keys, whose operations are let out through store.
func New(keys *Keys, store *opstore.Store, config Config) *Lanes {
	return &Lanes{
		Keys: keys, store: store, gates: config.Gates, policies: config.Policies, now: config.Now, stranded: config.Stranded,
		warn: rate.Sometimes{First: 1, Interval: warnEvery}, warnStranded: rate.Sometimes{First: 1, Interval: warnEvery}, looks: semaphore.NewWeighted(maxLooks),
	}
}

// Run lets out what the gates allow, until ctx ends.
func (l *Lanes) Run(ctx context.Context) {
	var tasks sync.WaitGroup
	defer tasks.Wait()
	tasks.Go(func() { l.sweeps(ctx) })
	tasks.Go(func() { l.counts(ctx) })
	tasks.Go(func() { l.watch(ctx) })
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		open, next := l.open(l.now())
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

// open claims the keys to check whose gate is open, and those that may be unmarked. It returns how
// long to wait for the next gate that opens by itself.
func (l *Lanes) open(now time.Time) (open []*keyLanes, wait time.Duration) {
	const shortest = 10 * time.Millisecond
	wait = sweepEvery
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range l.keys {
		timeIsUp := !k.next.IsZero() && !now.Before(k.next)
		if !k.releasing && (k.look || timeIsUp) {
			k.look, k.next = false, time.Time{}
			// Critical operations may go when no others may.
			if quota := l.quota(k, events.Critical, now); !quota.Shut || l.isLeftOver(k) {
				k.releasing = true
				open = append(open, k)
			} else {
				k.next = quota.Next
			}
		}
		if !k.next.IsZero() {
			wait = min(wait, max(k.next.Sub(now), shortest))
		}
	}
	return open, wait
}

// isLeftOver reports whether a key whose gate is shut is marked and seems to hold nothing. It would
// stay in use as long as it is marked: whoever looks at it asks its gate and renews its lease.
func (l *Lanes) isLeftOver(k *keyLanes) bool {
	return k.departures.held.Total() == 0 && l.markers.removable(k, time.Now())
}

func (l *Lanes) policy(k *keyLanes) *policy.Policy {
	resolved := l.policies().Resolve(policy.Query{Service: k.service, Operation: k.operation})
	return &resolved
}

// quota returns what the gate of a key allows for operations of a priority now.
func (l *Lanes) quota(k *keyLanes, p events.Priority, now time.Time) scheduler.Quota {
	return l.gates.Quota(l.policy(k), k.service, k.operation, p, now)
}

// letOut lets the lanes of a key out while its gate is open and they are not empty. The
// watchdog may end it.
func (l *Lanes) letOut(ctx context.Context, k *keyLanes) {
	release, cancel := context.WithCancel(ctx)
	defer cancel()
	l.mu.Lock()
	k.departures.cancel = cancel
	l.mu.Unlock()
	next, err := l.drain(release, k)
	again := false
	switch {
	case release.Err() != nil:
	case err != nil:
		l.warn.Do(func() {
			l.log.Warn("letting held operations out failed and will be retried", "key", k.key(), "error", err)
		})
		backoff.Sleep(ctx, failedPause)
		again = true
	}
	l.mu.Lock()
	k.departures.cancel = nil
	if next.IsZero() && k.recheck {
		// A replica that lags does not show what was just held.
		k.recheck, next = false, l.now().Add(recheckAfter)
	}
	k.releasing, k.next = false, next
	k.look = k.look || again
	l.mu.Unlock()
	l.wake.Set()
}

// drain lets operations out by priority and age, never more than the gate allows, so
// that a slow or just recovered target sets the pace. It returns when to check again: zero
// means when woken, as every sweep does for a marked key. When the lanes are empty,
// operations follow that are still parked although the outage is over.
func (l *Lanes) drain(ctx context.Context, k *keyLanes) (next time.Time, err error) {
	// Most keys hold nothing, which one request shows.
	switch empty, err := l.empty(ctx, k); {
	case err != nil:
		return next, err
	case empty:
		return l.emptied(ctx, k)
	}
	if err := l.markers.remark(ctx, k); err != nil {
		return next, err
	}
	k.flow.begin(l.now())
	d := &drain{Lanes: l, key: k, idle: polls(pollEvery, pollSlowest)}
	for _, p := range events.Priorities {
		d.all[p] = l.pages(l.subjects.Lane(p, k.service, k.operation))
	}
	for ctx.Err() == nil {
		if next, done, err := d.step(ctx); done || err != nil {
			return next, err
		}
	}
	return next, nil
}

// polls returns the pauses between requests to this instance's own gate. They need no
// jitter, because nobody else is involved.
func polls(first, longest time.Duration) backoff.Backoff {
	return backoff.Backoff{First: first, Longest: longest, Random: func() float64 { return 0.5 }}
}

// drain lets out the lanes of one key.
type drain struct {
	*Lanes
	key  *keyLanes
	all  [len(events.Priorities)]pages // of the lanes, by priority
	idle backoff.Backoff               // while the gate lets nothing through
}

// step lets out as many operations as may go now, or waits for the gate. done is
// whether there is nothing more to do until next.
func (d *drain) step(ctx context.Context) (next time.Time, done bool, err error) {
	k := d.key
	held, err := readAhead(ctx, &d.all, k.flow.window)
	if err != nil {
		return next, true, err
	}
	d.counted(k, held)
	if held.Total() == 0 {
		next, err = d.emptied(ctx, k)
		return next, true, err
	}
	now := d.now()
	quota, most := d.quotaFor(k, held, now)
	if quota.Shut {
		wait := quota.Next.Sub(now)
		paced := quota.Cause == gate.CauseGovernor || quota.Cause == gate.CauseBackpressure
		if !paced || wait <= 0 || wait >= patience {
			return quota.Next, true, nil
		}
		backoff.Sleep(ctx, wait) // and keep the pages in hand
		return next, false, nil
	}
	n := k.flow.allows(quota, now)
	if n <= 0 {
		d.idle.Wait(ctx)
		return next, false, nil
	}
	d.idle.Reset()
	var each gate.Lengths
	each, k.turns = split(k.turns, held, most, n)
	moved, err := d.release(ctx, each)
	k.flow.released(moved, d.now())
	d.departed(k, moved)
	return next, false, err
}

// quotaFor returns what the gate allows the held operations of a key, and how many of each
// priority at most: backpressure slows all but critical ones, and budgets keep a reserve for
// more urgent ones. The gate is shut if it is for all that are held.
func (l *Lanes) quotaFor(k *keyLanes, held gate.Lengths, now time.Time) (quota scheduler.Quota, most gate.Lengths) {
	found := false
	for _, p := range events.Priorities {
		if held[p] == 0 {
			continue
		}
		q := l.quota(k, p, now)
		if !q.Shut {
			most[p] = max(q.N, 1)
		}
		if !found || freer(&q, &quota) {
			quota, found = q, true
		}
	}
	if !found {
		quota = l.quota(k, events.Normal, now)
	}
	return quota, most
}

// freer reports whether a lets more out than b, or sooner.
func freer(a, b *scheduler.Quota) bool {
	switch {
	case a.Shut != b.Shut:
		return b.Shut
	case a.Shut:
		return !a.Next.IsZero() && (b.Next.IsZero() || a.Next.Before(b.Next))
	}
	return a.N > b.N
}

// split divides n turns among the lanes. Of each priority at most so many leave, the more
// urgent ones included.
func split(turns gate.RoundRobin, held, most gate.Lengths, n int) (each gate.Lengths, after gate.RoundRobin) {
	for p := range held {
		held[p] = min(held[p], most[p])
	}
	each, after = turns.Split(held, n)
	out := 0
	for _, p := range events.Priorities {
		each[p] = min(each[p], max(most[p]-out, 0))
		out += each[p]
	}
	return each, after
}

// empty reports whether the lanes of a key seem to be empty. Any replica answers, and a
// stale one misses what was just held.
func (l *Lanes) empty(ctx context.Context, k *keyLanes) (bool, error) {
	if err := l.looks.Acquire(ctx, 1); err != nil {
		return false, err
	}
	defer l.looks.Release(1)
	n, err := l.Count(ctx, k.service, k.operation)
	return n == 0, err
}

// emptied handles a key whose lanes seem to be empty: its marker is removed after a while,
// and parked operations may follow early.
func (l *Lanes) emptied(ctx context.Context, k *keyLanes) (next time.Time, err error) {
	l.counted(k, gate.Lengths{})
	if err := l.unmark(ctx, k); err != nil {
		return next, err
	}
	return l.early(ctx, k)
}

// readAhead reads two windows of every lane with nothing left in hand, and returns the
// lengths of the lanes. It reads an empty lane again after a while, and once more when all
// are empty.
func readAhead(ctx context.Context, all *[len(events.Priorities)]pages, window int) (held gate.Lengths, err error) {
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
		if held.Total() > 0 {
			break
		}
	}
	return held, nil
}

// Count returns how many operations of a key are held, or of all keys when service and
// operation are empty.
func (l *Lanes) Count(ctx context.Context, service, operation string) (uint64, error) {
	return l.count(ctx, l.subjects.Lanes(service, operation))
}

func (l *Lanes) count(ctx context.Context, subject string) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, streams.CallTimeout)
	defer cancel()
	return streams.Count(ctx, l.reading, l.streams.Waiting(), subject)
}

// release lets out up to each operations of a priority, the oldest of those in hand. It
// returns how many left their lane.
func (d *drain) release(ctx context.Context, each gate.Lengths) (int, error) {
	out := 0
	for _, p := range events.Priorities {
		page := d.all[p].take(each[p])
		if len(page) == 0 {
			continue
		}
		moved, err := d.move(ctx, page)
		if err != nil {
			return out, err
		}
		if out += moved; moved < len(page) {
			// Another instance lets out the same page, so this one goes on to the next.
			d.all[p].drop()
		}
	}
	return out, nil
}

// move lets a page of operations out and returns how many. If all are refused, another
// instance was faster, or their slots have newer versions: move then removes them.
func (l *Lanes) move(ctx context.Context, page []*jetstream.RawStreamMsg) (moved int, err error) {
	moved, err = l.store.ReleaseAll(ctx, page, time.Now())
	if err != nil || moved > 0 {
		return moved, err
	}
	for _, m := range page {
		if removed, err := l.store.Clear(ctx, m); err != nil || !removed {
			return 0, err
		}
	}
	return 0, nil
}
