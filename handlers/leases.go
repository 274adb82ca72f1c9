package handlers

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/rebound-mq/rebound/scheduler"
	"github.com/rebound-mq/rebound/scheduler/gate"
)

const (
	// renewEvery is how often leases are renewed.
	renewEvery = gate.LeaseTime / 3
	// renewTimeout bounds one renewal: a store that is slower is of no use.
	renewTimeout = gate.LeaseTime / 2
	// renewers is how many leases are renewed at once.
	renewers = 16
)

// Ledgers is where the instances share the limits of keys.
type Ledgers interface {
	// Renew gives an instance its next lease of a key's limits. After an error it
	// is not known whether it did.
	Renew(ctx context.Context, key string, c gate.Claim, s gate.Settings) (gate.Lease, error)
}

// leases keep this instance's shares in the limits of the keys in use.
type leases struct {
	instance string
	ledgers  Ledgers
	gates    *scheduler.Gates
	now      func() time.Time
	log      *slog.Logger
	warn     rate.Sometimes

	wake   chan struct{} // full when wanted is not empty
	mu     sync.Mutex
	wanted map[string]struct{} // keys; guarded by mu
	lost   bool                // the last renewal failed; guarded by mu
}

func newLeases(instance string, ledgers Ledgers, now func() time.Time, log *slog.Logger) *leases {
	return &leases{
		instance: instance, ledgers: ledgers, now: now, log: log, warn: rate.Sometimes{First: 1, Interval: warnEvery},
		wake: make(chan struct{}, 1), wanted: make(map[string]struct{}),
	}
}

// want has the lease of a key renewed at once. It is quick.
func (l *leases) want(key string) {
	l.mu.Lock()
	l.wanted[key] = struct{}{}
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// run renews until ctx ends.
func (l *leases) run(ctx context.Context) {
	tick := time.NewTicker(renewEvery)
	defer tick.Stop()
	for {
		var keys []string
		select {
		case <-ctx.Done():
			return
		case <-l.wake:
			l.mu.Lock()
			for key := range l.wanted {
				keys = append(keys, key)
			}
			clear(l.wanted)
			l.mu.Unlock()
		case <-tick.C:
			keys = l.gates.Leased(l.now())
		}
		l.renew(ctx, keys)
	}
}

func (l *leases) renew(ctx context.Context, keys []string) {
	var group errgroup.Group
	group.SetLimit(renewers)
	for _, key := range keys {
		group.Go(func() error {
			l.settle(ctx, l.renewOne(ctx, key))
			return nil
		})
	}
	_ = group.Wait() // none returns an error
}

func (l *leases) renewOne(ctx context.Context, key string) error {
	claim, settings, ok := l.gates.Claim(key)
	if !ok {
		return nil
	}
	claim.Instance = l.instance
	began := l.now()
	ctx, cancel := context.WithTimeout(ctx, renewTimeout)
	defer cancel()
	lease, err := l.ledgers.Renew(ctx, key, claim, settings)
	if err != nil {
		return err
	}
	lease.Until, lease.LeftUntil = began.Add(gate.LeaseTime), began.Add(time.Minute)
	l.gates.Share(key, lease, l.now())
	return nil
}

// settle notes how a renewal went.
func (l *leases) settle(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	l.mu.Lock()
	changed := l.lost != (err != nil)
	l.lost = err != nil
	l.mu.Unlock()
	switch {
	case err != nil:
		l.gates.Parted()
		l.warn.Do(func() {
			l.log.Warn("budgets and concurrency are divided evenly between the instances: their store is out of reach", "error", err)
		})
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
