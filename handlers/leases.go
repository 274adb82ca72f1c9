package handlers

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/rebound-mq/rebound/internal/shrink"
	"github.com/rebound-mq/rebound/scheduler"
	"github.com/rebound-mq/rebound/scheduler/gate"
)

const (
	// renewEvery is how often it is looked which leases are to be renewed.
	renewEvery = gate.LeaseTime / 3
	// renewTimeout bounds one renewal: a store that is slower is of no use.
	renewTimeout = gate.LeaseTime / 2
	// renewers is how many leases are renewed at once.
	renewers = 64
	// returnTimeout bounds the return of what is left when the instance stops.
	returnTimeout = time.Second
)

// Ledgers is where the instances share the limits of keys.
type Ledgers interface {
	// Renew gives an instance its next lease of a key's limits. After an error it
	// is not known whether it did.
	Renew(ctx context.Context, key string, c gate.Claim, s gate.Settings) (gate.Lease, error)
	// Forget drops what it keeps in memory of keys that are not used any more.
	Forget(keys []string)
}

// leases keep this instance's shares in the limits of the keys in use. What they do
// is in proportion to those keys, however many others there are.
type leases struct {
	instance string
	ledgers  Ledgers
	gates    *scheduler.Gates
	now      func() time.Time
	log      *slog.Logger
	warn     rate.Sometimes

	mu      sync.Mutex           // guards what follows
	changed *sync.Cond           // there is something in the queues, or the end
	wanted  []string             // keys of which operations wait for a lease, in turn
	stale   []string             // keys in use whose leases are to be renewed, after those
	keys    map[string]*leaseKey // of those that have or had a lease a moment ago
	turn    int                  // counts the keys that were taken from the queues
	lost    bool                 // the store is out of reach
	ended   bool
}

// leaseKey is where a key with a lease stands.
type leaseKey struct {
	place place // it is in that queue
	busy  bool  // the store is being asked
	again bool  // it was wanted meanwhile
}

// place is a queue of keys.
type place uint8

const (
	nowhere place = iota
	inStale
	inWanted // it may stand in stale, too, where it is passed over
)

// staleTurn is which turn is that of a stale lease while others are wanted.
const staleTurn = 8

func newLeases(instance string, ledgers Ledgers, now func() time.Time, log *slog.Logger) *leases {
	l := &leases{
		instance: instance, ledgers: ledgers, now: now, log: log, warn: rate.Sometimes{First: 1, Interval: warnEvery},
		keys: make(map[string]*leaseKey),
	}
	l.changed = sync.NewCond(&l.mu)
	return l
}

// want has the lease of a key renewed at once. It is quick.
func (l *leases) want(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.keys[key]
	if k == nil {
		k = &leaseKey{}
		l.keys[key] = k
	}
	switch {
	case k.busy:
		k.again = true
	case k.place != inWanted:
		k.place = inWanted
		l.wanted = append(l.wanted, key)
		l.changed.Signal()
	}
}

// run renews until ctx ends, and then returns what is left of the leases: another
// instance may use it.
func (l *leases) run(ctx context.Context) {
	var workers sync.WaitGroup
	for range renewers {
		workers.Go(func() { l.work(ctx) })
	}
	tick := time.NewTicker(renewEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
			l.look(l.now())
		}
	}
	l.mu.Lock()
	l.ended = true
	l.changed.Broadcast()
	l.mu.Unlock()
	workers.Wait()
	l.returnAll(ctx)
}

// look queues the leases that are to be renewed or returned, and forgets the keys that
// are over. While the store is out of reach a few tell whether it is back.
func (l *leases) look(now time.Time) {
	if over := l.queue(now); len(over) > 0 {
		l.ledgers.Forget(over)
	}
}

// queue queues leases and returns the keys that are over.
func (l *leases) queue(now time.Time) (over []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, k := range l.keys {
		if k.place != nowhere || k.busy {
			continue
		}
		switch l.gates.LeaseNeed(key, now) {
		case scheduler.LeaseRests:
		case scheduler.LeaseOver:
			delete(l.keys, key)
			over = append(over, key)
		case scheduler.LeaseRenewal, scheduler.LeaseReturn:
			if l.lost && len(l.stale) >= renewers {
				continue
			}
			k.place = inStale
			l.stale = append(l.stale, key)
		}
	}
	l.keys = shrink.Map(l.keys, len(over))
	l.changed.Broadcast()
	return over
}

// work renews leases one after the other.
func (l *leases) work(ctx context.Context) {
	for {
		key, ok := l.next()
		if !ok {
			return
		}
		l.settle(ctx, l.renew(ctx, key))
		l.done(key)
	}
}

// next waits for a key whose lease is to be renewed; ok is false at the end. Those
// for which operations wait go first, but for every eighth turn.
func (l *leases) next() (key string, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		for len(l.wanted)+len(l.stale) == 0 && !l.ended {
			l.changed.Wait()
		}
		if l.ended {
			return "", false
		}
		queue, from := &l.wanted, inWanted
		if len(l.wanted) == 0 || len(l.stale) > 0 && l.turn%staleTurn == 0 {
			queue, from = &l.stale, inStale
		}
		l.turn++
		key, *queue = (*queue)[0], (*queue)[1:]
		if len(*queue) == 0 {
			*queue = nil // it may have been long
		}
		if k := l.keys[key]; k != nil && k.place == from && !k.busy {
			k.place, k.busy = nowhere, true
			return key, true
		}
	}
}

// done has a key queued again that was wanted while the store was asked.
func (l *leases) done(key string) {
	l.mu.Lock()
	k := l.keys[key]
	again := k.again
	k.busy, k.again = false, false
	l.mu.Unlock()
	if again {
		l.want(key)
	}
}

// renew renews the lease of a key, or returns what is left of it when it is not in
// use any more.
func (l *leases) renew(ctx context.Context, key string) error {
	if l.gates.LeaseNeed(key, l.now()) == scheduler.LeaseReturn {
		return l.giveBack(ctx, key)
	}
	began := l.now()
	lease, ok, err := l.ask(ctx, key, false)
	if err != nil || !ok {
		return err
	}
	lease.Until, lease.LeftUntil = began.Add(gate.LeaseTime), began.Add(time.Minute)
	l.gates.Share(key, lease, l.now())
	return nil
}

func (l *leases) giveBack(ctx context.Context, key string) error {
	lease, ok, err := l.ask(ctx, key, true)
	if err != nil || !ok {
		return err
	}
	l.gates.Returned(key, lease)
	return nil
}

// ask claims at the store; ok is false for a key that has no limits any more.
func (l *leases) ask(ctx context.Context, key string, leaving bool) (lease gate.Lease, ok bool, err error) {
	claim, settings, ok := l.gates.Claim(key)
	if !ok {
		return lease, false, nil
	}
	claim.Instance, claim.Leaving = l.instance, leaving
	ctx, cancel := context.WithTimeout(ctx, renewTimeout)
	defer cancel()
	lease, err = l.ledgers.Renew(ctx, key, claim, settings)
	return lease, true, err
}

// returnAll returns what is left of all leases, as far as there is time.
func (l *leases) returnAll(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), returnTimeout)
	defer cancel()
	l.mu.Lock()
	keys := make(chan string, len(l.keys))
	for key := range l.keys {
		keys <- key
	}
	lost := l.lost
	l.mu.Unlock()
	close(keys)
	var workers sync.WaitGroup
	for range renewers {
		workers.Go(func() {
			for key := range keys {
				if lost || ctx.Err() != nil || !l.gates.Owes(key) {
					continue
				}
				if err := l.giveBack(ctx, key); err != nil {
					l.log.Debug("what is left of a budget could not be returned", "key", key, "error", err)
				}
			}
		})
	}
	workers.Wait()
}

// settle notes how a renewal went.
func (l *leases) settle(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	lost := err != nil && l.gates.Parted(l.now())
	l.mu.Lock()
	changed := l.lost != lost
	l.lost = lost
	l.mu.Unlock()
	switch {
	case lost:
		l.warn.Do(func() {
			l.log.Warn("budgets and concurrency are divided evenly between the instances: their store is out of reach", "error", err)
		})
	case err != nil:
		l.log.Debug("a lease could not be had; it is asked for again", "error", err)
	case changed:
		l.log.Info("budgets and concurrency are shared by demand again")
	}
}

// divided tells whether the store is out of reach.
func (l *leases) divided() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost
}
