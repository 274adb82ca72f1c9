package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
	"golang.org/x/time/rate"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/breaker/natsstore"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/internal/backoff"
	"github.com/rebound-mq/rebound/internal/ledger"
	"github.com/rebound-mq/rebound/internal/notify"
	"github.com/rebound-mq/rebound/internal/pauses"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/scheduler"
	"github.com/rebound-mq/rebound/scheduler/gate"
)

// Stores are where a service that does not use NATS for it shares breakers and limits. Package
// client/redisstores makes those of Redis.
type Stores struct {
	Breakers breaker.Store
	Limits   LimitStore
}

// LimitStore holds the ledgers by which processes share the limits of keys.
type LimitStore interface {
	// Renew gives an instance its next lease of a key's limits. After an error it is not known
	// whether the ledger has changed.
	Renew(ctx context.Context, key string, c gate.Claim, s gate.Settings) (gate.Lease, error)
	// Forget drops what this process remembers of unused keys.
	Forget(keys []string)
}

// Sharing says whether the breakers and limits of [Execute] are shared with the service.
type Sharing struct {
	// Store names where they are to be shared, nats or redis; empty if they are this process's own.
	Store string
	// Shared reports whether the breakers are those of the store, and Limits whether the limits are.
	// Both are false until the first call of [Execute].
	Shared, Limits bool
	// Since is when Shared last changed, and Err why it is false, or why changes by others are
	// noticed late.
	Since time.Time
	Err   error
	// Service names where the service shares its own, empty as long as no instance has told.
	Service string
}

const (
	// joinTimeout bounds how long the first call of Execute waits for what is shared.
	joinTimeout = 2 * time.Second
	// checkEvery is how often the store of the breakers is asked whether it is there. There may be
	// thousands of clients.
	checkEvery = 2 * time.Second
	// renewers is how many leases are renewed at once.
	renewers = 4
	// maxReports is how many reports of instances may wait to be read; newer ones follow.
	maxReports = 64
)

// sharing holds the breakers and limits of [Execute]. What is shared is joined before the first
// attempt, so that a client that only submits does none of this.
type sharing struct {
	client *Client
	store  string // where they are shared, empty if nowhere
	group  *breaker.Group
	runs   bool // the group is the client's to run
	gates  *scheduler.Gates
	limits ledger.Store   // nil if they are not shared
	leases *ledger.Leases // of limits
	warn   rate.Sometimes

	pauses    atomic.Pointer[scheduler.Pauses] // nil while nothing is paused
	pressure  atomic.Bool                      // failing keys have a trickle of retries
	instances instances
	appeared  notify.Signal // an instance of the service has come up
	other     atomic.Pointer[string]

	join    sync.Once
	running sync.WaitGroup
	mu      sync.Mutex // guards the fields below
	keys    []string   // that Execute uses
	closed  bool
	stop    context.CancelFunc
}

func newSharing(c *Client) (*sharing, error) {
	s := &sharing{client: c, group: c.config.Breakers, warn: rate.Sometimes{First: 1, Interval: warnEvery}, appeared: notify.NewSignal(), stop: func() {}}
	own, err := s.stores()
	if err != nil {
		return nil, err
	}
	id := nuid.Next()
	switch {
	case s.group != nil:
	case own == nil:
		s.group = breaker.NewGroup(breaker.Config{})
	default:
		s.runs = true
		s.group = breaker.NewGroup(breaker.Config{
			Instance: id, Store: own, Check: checkEvery, Changed: s.changed, StatusChanged: s.statusChanged,
		})
	}
	config := scheduler.GatesConfig{OnlyLimits: true}
	wanted := ledger.NewQueue()
	if s.limits != nil {
		config.Lease = wanted.Want
	}
	// The gates see no breaker: Execute asks that before every attempt, and the gates before retries.
	s.gates = scheduler.NewGates(breaker.NewGroup(breaker.Config{}), config)
	if s.limits != nil {
		s.leases = ledger.NewLeases(wanted, s.gates, ledger.LeasesConfig{Instance: id, Store: s.limits, Renewers: renewers, Now: time.Now, Log: c.log})
	}
	return s, nil
}

// stores chooses where breakers and limits are shared and returns the store of the breakers, nil
// if they are not shared.
func (s *sharing) stores() (breaker.Store, error) {
	c := s.client
	switch stores := c.config.Stores; {
	case c.config.Local && stores != nil:
		return nil, errors.New("breakers and limits cannot be both local and in stores")
	case stores != nil && (stores.Breakers == nil || stores.Limits == nil):
		return nil, errors.New("the stores need both one of breakers and one of limits")
	case stores != nil && s.group != nil:
		return nil, errors.New("there is both a group of breakers and a store for them")
	case stores != nil:
		s.limits = stores.Limits
		s.store = "other"
		if named, ok := stores.Breakers.(fmt.Stringer); ok {
			s.store = named.String()
		}
		return stores.Breakers, nil
	case c.nc == nil || c.config.Local:
		return nil, nil
	}
	s.store, s.limits = "nats", ledger.ExistingNATS(c.js, c.streams.LedgersBucket())
	return natsstore.Existing(c.js, c.streams.BreakersBucket(), s.used), nil
}

// used returns the keys that Execute uses.
func (s *sharing) used() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.keys)
}

// use makes the state of a key known before its first attempt. If that fails, the key's breaker is
// closed as far as this process knows, until the store is reached.
func (s *sharing) use(ctx context.Context, key string) {
	if s.store == "" {
		return
	}
	s.mu.Lock()
	known := slices.Contains(s.keys, key)
	if !known {
		s.keys = append(s.keys, key)
	}
	all := len(s.keys) > natsstore.MostKeys+1 // so that all are watched
	s.mu.Unlock()
	first := false
	s.join.Do(func() {
		first = true
		s.start(ctx)
	})
	if first || known || all || !s.runs || !s.group.Status().Shared {
		return // it was read with all others, or will be
	}
	if err := s.group.Learn(ctx, key); err != nil {
		s.client.log.Debug("the breaker of a key could not be read before its first attempt", "key", key, "error", err)
	}
}

// start joins what is shared and waits until it is known, not for long.
func (s *sharing) start(ctx context.Context) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	own, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	joined := make(chan struct{})
	s.running.Go(func() { s.run(own, joined) })
	s.mu.Unlock()
	backoff.SleepUnless(ctx, joinTimeout, joined)
}

// close stops what start began and waits for it. Results that are left are sent, and the rest of
// leases is returned.
func (s *sharing) close() {
	s.mu.Lock()
	s.closed = true
	stop := s.stop
	s.mu.Unlock()
	stop()
	s.running.Wait()
	s.gates.Alone(time.Now()) // calls under way wait for no lease
}

// run keeps everything shared until ctx ends. It closes joined once all is known for the first
// time, or cannot be.
func (s *sharing) run(ctx context.Context, joined chan<- struct{}) {
	var first, tasks sync.WaitGroup
	if s.runs {
		first.Go(func() { _ = s.group.Join(ctx) }) // its status tells
	}
	if bucket, ok := s.limits.(*ledger.NATS); ok {
		first.Go(func() { s.joinLimits(ctx, bucket) })
	}
	if s.client.nc != nil {
		first.Add(1)
		tasks.Go(func() { s.followPauses(ctx, sync.OnceFunc(first.Done)) })
		tasks.Go(func() { s.hearInstances(ctx) })
	}
	first.Wait()
	close(joined)
	if s.runs {
		tasks.Go(func() { s.group.Run(ctx) })
	}
	tasks.Go(func() { s.leases.Run(ctx) })
	tasks.Wait()
}

// joinLimits opens the bucket of the limits. Retries would wait for leases of a store that is not
// there.
func (s *sharing) joinLimits(ctx context.Context, bucket *ledger.NATS) {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	if err := bucket.Join(ctx); err != nil {
		s.gates.Alone(time.Now())
		s.client.log.Debug("the limits of retries are this process's own until their store is reached", "error", err)
	}
}

// followPauses heeds what operators pause, until ctx ends. It calls read once that is known, or
// cannot be.
func (s *sharing) followPauses(ctx context.Context, read func()) {
	var clock streams.Clock
	c := s.client
	stream := "KV_" + c.streams.PausesBucket()
	inForce := func(all []events.Pause) {
		ahead := time.Until(clock.Now(ctx, c.js, stream))
		for i := range all {
			if until := &all[i].Until; !until.IsZero() {
				*until = until.Add(-ahead) // from the server's time to this host's
			}
		}
		set := scheduler.NewPauses(all)
		if len(all) == 0 {
			set = nil
		}
		s.pauses.Store(set)
		read()
	}
	broken := func(key string, err error) {
		c.log.Warn("a pause cannot be read and holds nothing", "key", key, "error", err)
	}
	for ctx.Err() == nil {
		err := pauses.Watch(ctx, c.js, c.config.Prefix, inForce, broken)
		read()
		pace := backoff.Backoff{First: followRetry, Longest: followRetry}
		switch {
		case ctx.Err() != nil:
		case errors.Is(err, pauses.ErrNoBucket):
			pace = backoff.Backoff{First: bucketRetry, Longest: bucketRetry}
		case err != nil:
			s.warn.Do(func() {
				c.log.Warn("what operators have paused cannot be read; Execute heeds what it knows", "error", err)
			})
		}
		backoff.SleepUnless(ctx, pace.Next(), s.appeared)
	}
}

// hearInstances follows the reports of the service's instances until ctx ends: how many there are,
// whether backpressure is on, and where they share.
func (s *sharing) hearInstances(ctx context.Context) {
	reports := make(chan *nats.Msg, maxReports)
	sub, err := s.client.nc.ChanSubscribe(s.client.subjects.Instances(), reports)
	if err != nil {
		s.client.log.Warn("the reports of the service's instances cannot be heard; Execute does not know of backpressure", "error", err)
		return
	}
	defer func() { _ = sub.Unsubscribe() }() // fails if the connection has ended it
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case m := <-reports:
			r, err := wire.DecodeInstance(s.client.subjects, m)
			if err != nil {
				s.client.log.Debug("a report of an instance was refused", "subject", m.Subject, "error", err)
				continue
			}
			if s.instances.hear(&r, time.Now()) {
				s.appeared.Set()
			}
		case <-tick.C:
			if s.client.nc.IsConnected() {
				s.heed(s.instances.view(time.Now()))
			}
		}
	}
}

// heed puts in force what the instances of the service report.
func (s *sharing) heed(v instancesView) {
	s.gates.SetInstances(v.count + 1)
	s.pressure.Store(v.trickles)
	s.gates.SetPressure(v.trickles)
	before := s.other.Swap(&v.store)
	if v.store == "" || v.store == s.store || before != nil && *before == v.store {
		return
	}
	s.client.log.Error("Execute shares nothing with the service, which keeps breakers and limits elsewhere; see client.Config.Stores", "here", s.store, "service", v.store)
}

// changed publishes a change of a breaker that this process made, as an instance of the service
// would.
func (s *sharing) changed(change breaker.Change) {
	if !change.Own || s.client.publisher == nil {
		return
	}
	circuit, _ := s.group.Known(change.Key)
	e, id, err := scheduler.BreakerChanged(change, &circuit)
	if err != nil {
		s.client.log.Error("a change of a breaker cannot be published", "key", change.Key, "error", err)
		return
	}
	s.client.publisher.publish(pendingEvent{
		subject: s.client.subjects.Event(events.BreakerChanged, e.Service, e.Operation), name: events.BreakerChanged,
		id: id, about: events.About{Service: e.Service, Operation: e.Operation}, at: change.At, data: e,
	})
}

func (s *sharing) statusChanged(status breaker.Status) {
	log, ctx := s.client.log, context.Background()
	if !status.Shared {
		s.gates.Alone(time.Now()) // until a lease arrives: that store is out of reach, too, as a rule
	}
	switch {
	case errors.Is(status.Err, jetstream.ErrBucketNotFound):
		log.Log(ctx, slog.LevelInfo, "the breakers and limits of Execute are this process's own: no service keeps any here", "error", status.Err)
	case !status.Shared:
		log.Log(ctx, slog.LevelWarn, "the breakers of Execute are this process's own: their store is out of reach", "store", s.store, "error", status.Err)
	case status.Err != nil:
		log.Log(ctx, slog.LevelWarn, "the breakers of Execute are shared, but changes by others are noticed late", "store", s.store, "error", status.Err)
	default:
		log.Log(ctx, slog.LevelInfo, "the breakers of Execute are shared", "store", s.store)
	}
}

// Sharing says whether the breakers and limits of [Execute] are shared with the service. They are
// joined with the first call of Execute.
func (c *Client) Sharing() Sharing {
	s := c.sharing
	status := s.group.Status()
	out := Sharing{Store: s.store, Shared: status.Shared, Since: status.Since, Err: status.Err}
	out.Limits = s.limits != nil && status.Shared && !s.leases.Divided()
	if service := s.other.Load(); service != nil {
		out.Service = *service
	}
	return out
}
