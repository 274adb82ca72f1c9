package ledger

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/rebound-mq/rebound/scheduler"
	"github.com/rebound-mq/rebound/scheduler/gate"
)

const (
	// renewEvery is how often leases to renew are looked for.
	renewEvery = gate.LeaseTime / 3
	// renewTimeout bounds one renewal; a slower store is useless.
	renewTimeout = gate.LeaseTime / 2
	// renewers is how many leases are renewed at once by default.
	renewers = 64
	// returnTimeout bounds the return of leases when the instance stops.
	returnTimeout = time.Second
	// warnEvery is how often it is logged that the store is out of reach.
	warnEvery = time.Minute
)

// Leases keep one instance's shares in the limits of the keys in use. Their work is
// proportional to the keys in use, however many others there are.
type Leases struct {
	queue *Queue
	gates Gates
	LeasesConfig
	warn rate.Sometimes
	lost atomic.Bool // the store is out of reach
}

// LeasesConfig configures [Leases]. All but Renewers is required.
type LeasesConfig struct {
	// Instance is the id of this instance.
	Instance string
	// Store holds the ledgers.
	Store Store
	// Renewers is how many leases are renewed at once, 64 if 0.
	Renewers int
	// Now is the clock.
	Now func() time.Time
	Log *slog.Logger
}

// Store holds the ledgers by which instances share the limits of keys. [NATS] is one, and
// package redisledger has another.
type Store interface {
	// Renew gives an instance its next lease of a key's limits. After an error it is
	// not known whether the ledger has changed.
	Renew(ctx context.Context, key string, c gate.Claim, s gate.Settings) (gate.Lease, error)
	// Forget drops what this process remembers of unused keys.
	Forget(keys []string)
}

// Gates is what [Leases] need of [scheduler.Gates].
type Gates interface {
	LeaseNeed(key string, now time.Time) scheduler.LeaseNeed
	Claim(key string, now time.Time) (c gate.Claim, s gate.Settings, ok bool)
	Share(key string, l gate.Lease, now time.Time)
	Returned(key string, l gate.Lease)
	Unreported(key string) bool
	Detached(now time.Time) (detached bool)
}

// NewLeases returns the leases of the keys in queue, for gates to use.
func NewLeases(queue *Queue, gates Gates, c LeasesConfig) *Leases {
	c.Renewers = cmp.Or(c.Renewers, renewers)
	return &Leases{queue: queue, gates: gates, LeasesConfig: c, warn: rate.Sometimes{First: 1, Interval: warnEvery}}
}

// Run renews leases until ctx ends, and then returns them for other instances to use.
func (l *Leases) Run(ctx context.Context) {
	var workers sync.WaitGroup
	for range l.Renewers {
		workers.Go(func() { l.work(ctx) })
	}
	tick := time.NewTicker(renewEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
			l.look(l.Now())
		}
	}
	keys := l.queue.close()
	workers.Wait()
	l.returnAll(ctx, keys)
}

// Divided reports whether the limits are divided evenly between the instances because the
// store is out of reach.
func (l *Leases) Divided() bool { return l.lost.Load() }

// look queues the leases to renew or return, and forgets unused keys. While the store is
// out of reach it tries a few, to learn whether the store is back.
func (l *Leases) look(now time.Time) {
	most := 0
	if l.lost.Load() {
		most = l.Renewers
	}
	forgotten := l.queue.fill(most, func(key string) due {
		switch l.gates.LeaseNeed(key, now) {
		case scheduler.LeaseRenewal, scheduler.LeaseReturn:
			return dueNow
		case scheduler.LeaseOver:
			return dueNever
		default:
			return dueLater
		}
	})
	if len(forgotten) > 0 {
		l.Store.Forget(forgotten)
	}
}

// work renews leases one after the other.
func (l *Leases) work(ctx context.Context) {
	for {
		key, ok := l.queue.next()
		if !ok {
			return
		}
		l.note(ctx, l.renew(ctx, key))
		l.queue.done(key)
	}
}

// renew renews the lease of a key, or returns it if the key is no longer in use.
func (l *Leases) renew(ctx context.Context, key string) error {
	if l.gates.LeaseNeed(key, l.Now()) == scheduler.LeaseReturn {
		return l.giveBack(ctx, key)
	}
	began := l.Now()
	lease, ok, err := l.ask(ctx, key, false)
	if err != nil || !ok {
		return err
	}
	lease.Until, lease.LeftUntil = began.Add(gate.LeaseTime), began.Add(time.Minute)
	l.gates.Share(key, lease, l.Now())
	return nil
}

func (l *Leases) giveBack(ctx context.Context, key string) error {
	lease, ok, err := l.ask(ctx, key, true)
	if err != nil || !ok {
		return err
	}
	l.gates.Returned(key, lease)
	return nil
}

// ask makes a claim at the store; ok is false for a key that no longer has limits.
func (l *Leases) ask(ctx context.Context, key string, leaving bool) (lease gate.Lease, ok bool, err error) {
	claim, settings, ok := l.gates.Claim(key, l.Now())
	if !ok {
		return lease, false, nil
	}
	claim.Instance, claim.Leaving = l.Instance, leaving
	ctx, cancel := context.WithTimeout(ctx, renewTimeout)
	defer cancel()
	lease, err = l.Store.Renew(ctx, key, claim, settings)
	return lease, true, err
}

// returnAll returns the leases of keys, as far as time permits.
func (l *Leases) returnAll(ctx context.Context, keys []string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), returnTimeout)
	defer cancel()
	todo := make(chan string, len(keys))
	for _, key := range keys {
		todo <- key
	}
	close(todo)
	lost := l.lost.Load()
	var workers sync.WaitGroup
	for range l.Renewers {
		workers.Go(func() {
			for key := range todo {
				if lost || ctx.Err() != nil || !l.gates.Unreported(key) {
					continue
				}
				if err := l.giveBack(ctx, key); err != nil {
					l.Log.Debug("the rest of a budget could not be returned", "key", key, "error", err)
				}
			}
		})
	}
	workers.Wait()
}

// note records the result of a renewal.
func (l *Leases) note(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	lost := err != nil && l.gates.Detached(l.Now())
	changed := l.lost.Swap(lost) != lost
	switch {
	case lost:
		l.warn.Do(func() {
			l.Log.Warn("budgets and concurrency are divided evenly between the instances: their store is out of reach", "error", err)
		})
	case err != nil:
		l.Log.Debug("a lease could not be renewed; it is requested again", "error", err)
	case changed:
		l.Log.Info("budgets and concurrency are shared by demand again")
	}
}
