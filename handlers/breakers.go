package handlers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/micro"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/health"
	"github.com/rebound-mq/rebound/internal/lanes"
	"github.com/rebound-mq/rebound/internal/notify"
	"github.com/rebound-mq/rebound/internal/opstore"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/scheduler"
	"github.com/rebound-mq/rebound/schemas"
)

// breakers are the circuit breakers of one instance. It publishes their changes.
type breakers struct {
	group *breaker.Group
	// shared names the store in which the instances share them.
	shared   string
	store    *opstore.Store
	subjects events.Subjects
	log      *slog.Logger
	// heard is called with every change, by this instance or another.
	heard func(breaker.Change)

	wake    notify.Signal // there is something to publish
	mu      sync.Mutex
	changes []breaker.Change // to be published, in order; guarded by mu
}

// breakersConfig configures [breakers].
type breakersConfig struct {
	instance string
	// shared is the store in which the instances share them.
	shared breaker.Store
	// forget is how long an unused closed breaker is remembered.
	forget   time.Duration
	store    *opstore.Store
	subjects events.Subjects
	// now is the server's time.
	now func() time.Time
	// freed is called with a key whose breaker may let more attempts through than before.
	freed func(key string)
	// heard is called with every change, this instance's own or not.
	heard func(breaker.Change)
	log   *slog.Logger
}

func newBreakers(c breakersConfig) *breakers {
	b := &breakers{shared: storeName(c.shared), store: c.store, subjects: c.subjects, log: c.log, heard: c.heard, wake: notify.NewSignal()}
	b.group = breaker.NewGroup(breaker.Config{
		Instance: c.instance, Store: c.shared, Forget: c.forget, Freed: c.freed, Changed: b.changed, StatusChanged: b.statusChanged, Now: c.now,
	})
	return b
}

// storeName returns the name of the store of breakers or limits.
func storeName(s any) string {
	if named, ok := s.(fmt.Stringer); ok {
		return named.String()
	}
	return "other"
}

// join reads the open breakers before the first attempt. Without the store the
// instance starts alone.
func (b *breakers) join(ctx context.Context) {
	if err := b.group.Join(ctx); err != nil {
		b.log.Warn("the circuit breakers are this instance's own until their store is reached", "store", b.shared, "error", err)
	}
}

func (b *breakers) changed(c breaker.Change) {
	b.heard(c)
	if !c.Own {
		return
	}
	level, said := slog.LevelInfo, []any{"key", c.Key, "from", c.From, "to", c.To, "cause", c.Cause}
	for _, more := range [][2]string{{"by", c.Operator}, {"note", c.Note}} {
		if more[1] != "" {
			said = append(said, more[0], more[1])
		}
	}
	if c.From == breaker.Closed {
		level = slog.LevelWarn
		if c.Error != "" {
			said = append(said, "error", c.Error)
		}
	}
	b.log.Log(context.Background(), level, "a circuit breaker changed", said...)
	b.mu.Lock()
	b.changes = append(b.changes, c)
	b.mu.Unlock()
	b.wake.Set()
}

func (b *breakers) statusChanged(s breaker.Status) {
	switch {
	case !s.Shared:
		b.log.Warn("the circuit breakers are this instance's own: their store is out of reach", "store", b.shared, "error", s.Err)
	case s.Err != nil:
		b.log.Warn("the circuit breakers are shared, but changes by other instances are noticed late", "store", b.shared, "error", s.Err)
	default:
		b.log.Info("the circuit breakers are shared", "store", b.shared)
	}
}

// run keeps the breakers shared and publishes their changes, until ctx ends.
func (b *breakers) run(ctx context.Context) {
	var tasks sync.WaitGroup
	tasks.Go(func() { b.group.Run(ctx) })
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-b.wake:
			b.publishAll(ctx)
		}
	}
	tasks.Wait()
	// The last results may have changed a breaker.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), streams.CallTimeout)
	defer cancel()
	b.publishAll(last)
}

// publishAll publishes the pending changes.
func (b *breakers) publishAll(ctx context.Context) {
	for {
		b.mu.Lock()
		if len(b.changes) == 0 {
			b.mu.Unlock()
			return
		}
		c := b.changes[0]
		b.mu.Unlock()
		if err := b.publish(ctx, c); err != nil {
			if ctx.Err() != nil {
				return
			}
			b.log.Error("a change of a circuit breaker could not be published", "key", c.Key, "to", c.To, "error", err)
		}
		b.mu.Lock()
		b.changes = b.changes[1:]
		b.mu.Unlock()
	}
}

func (b *breakers) publish(ctx context.Context, c breaker.Change) error {
	circuit, _ := b.group.Known(c.Key)
	event, id, err := scheduler.BreakerChanged(c, &circuit)
	if err != nil {
		return err
	}
	msg, err := wire.EncodeEvent(b.subjects.Event(events.BreakerChanged, event.Service, event.Operation), wire.Event{
		Name: events.BreakerChanged, ID: id, About: events.About{Service: event.Service, Operation: event.Operation}, Time: c.At, Data: event,
	})
	if err != nil {
		return err
	}
	return b.store.Publish(ctx, "telling of the breaker of "+c.Key, msg)
}

// circuits returns the worst state of each service's breakers.
func (b *breakers) circuits() map[string]breaker.State { return health.Circuits(b.group.States()) }

// coordination says how the breakers are shared.
func (b *breakers) coordination() schemas.Sharing {
	s := b.group.Status()
	c := schemas.Sharing{Store: b.shared, Shared: s.Shared, Since: s.Since.UTC()}
	if s.Err != nil {
		c.Problem = s.Err.Error()
	}
	return c
}

// logUnread logs why the store could not be read; the answer then comes from this
// instance's memory.
func (b *breakers) logUnread(err error) {
	if err != nil {
		b.log.Debug("the store of the circuit breakers could not be read", "error", err)
	}
}

// notClosed returns the worst of the breakers that are not closed, and counts of all.
func (b *breakers) notClosed(ctx context.Context, most int) ([]breaker.Summary, breaker.Counts) {
	circuits, counts, err := b.group.Worst(ctx, most, func(*breaker.Circuit) bool { return true })
	b.logUnread(err)
	out := []breaker.Summary{}
	for _, c := range circuits {
		if c.State != breaker.Closed {
			out = append(out, c.Summary)
		}
	}
	return out, counts
}

// breakerRequests answers requests about breakers.
type breakerRequests struct {
	breakers *breakers
	lanes    *lanes.Lanes
}

func (q breakerRequests) list(ctx context.Context, r micro.Request) (any, error) {
	var request schemas.BreakerQuery
	if err := read(r, &request); err != nil {
		return nil, err
	}
	if err := request.Check(); err != nil {
		return nil, badRequestError{err}
	}
	limit := cmp.Or(request.Limit, schemas.DefaultListLimit)
	want := func(c *breaker.Circuit) bool {
		service, _, err := events.SplitKey(c.ServiceKey)
		return err == nil && (request.Service == "" || request.Service == service)
	}
	list := schemas.BreakerList{Coordination: q.breakers.coordination(), Breakers: []breaker.Summary{}}
	var circuits []breaker.Circuit
	var err error
	if request.ByKey {
		circuits, list.Counts, err = q.breakers.group.After(ctx, request.After, limit, want)
	} else {
		circuits, list.Counts, err = q.breakers.group.Worst(ctx, limit, want)
	}
	q.breakers.logUnread(err)
	for _, c := range circuits {
		list.Breakers = append(list.Breakers, c.Summary)
	}
	if n := len(circuits); request.ByKey && n == limit {
		list.Next = circuits[n-1].ServiceKey
	}
	return list, nil
}

func (q breakerRequests) show(ctx context.Context, r micro.Request) (any, error) {
	var request schemas.BreakerShow
	if err := read(r, &request); err != nil {
		return nil, err
	}
	service, operation, err := events.SplitKey(request.Key)
	if err != nil {
		return nil, badRequestError{err}
	}
	c, ok, err := q.breakers.group.Find(ctx, request.Key)
	q.breakers.logUnread(err)
	if !ok {
		return nil, notFoundError{fmt.Errorf("nothing is known of a breaker of %s", request.Key)}
	}
	shown := schemas.BreakerShown{Summary: c.Summary, Coordination: q.breakers.coordination()}
	if shown.HeldOperations, err = q.lanes.Count(ctx, service, operation); err != nil {
		return nil, err
	}
	return shown, nil
}

func (q breakerRequests) trip(ctx context.Context, r micro.Request) (any, error) {
	return q.operate(r, func(a schemas.BreakerAct) (breaker.Circuit, error) {
		return q.breakers.group.Trip(ctx, a.Key, events.Milliseconds(a.ForMs), breaker.Operator{Name: a.By, Note: a.Note})
	})
}

func (q breakerRequests) hold(ctx context.Context, r micro.Request) (any, error) {
	return q.operate(r, func(a schemas.BreakerAct) (breaker.Circuit, error) {
		return q.breakers.group.Hold(ctx, a.Key, breaker.Operator{Name: a.By, Note: a.Note})
	})
}

func (q breakerRequests) reset(ctx context.Context, r micro.Request) (any, error) {
	return q.operate(r, func(a schemas.BreakerAct) (breaker.Circuit, error) {
		return q.breakers.group.Reset(ctx, a.Key, breaker.Operator{Name: a.By, Note: a.Note})
	})
}

// operate carries out an operator's command.
func (breakerRequests) operate(r micro.Request, do func(schemas.BreakerAct) (breaker.Circuit, error)) (any, error) {
	var request schemas.BreakerAct
	if err := read(r, &request); err != nil {
		return nil, err
	}
	if _, _, err := events.SplitKey(request.Key); err != nil {
		return nil, badRequestError{err}
	}
	if err := request.Check(); err != nil {
		return nil, badRequestError{err}
	}
	c, err := do(request)
	alone := errors.Is(err, breaker.ErrAlone)
	if err != nil && !alone {
		return nil, err
	}
	return schemas.BreakerActed{Summary: c.Summary, ThisInstanceOnly: alone}, nil
}
