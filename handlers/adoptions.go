package handlers

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/internal/adoption"
	"github.com/rebound-mq/rebound/internal/streams"
)

const (
	// reviewEvery is how often an instance puts right what another one, or somebody
	// else, set otherwise.
	reviewEvery = time.Minute
	// putTimeout is how long JetStream is waited for when a list is put in force,
	// before it is asked again.
	putTimeout = 3 * time.Second
)

// adoptions keeps an instance in step with the consumers that are adopted: it has
// the stream of advisories listen on them, and listens itself.
type adoptions struct {
	js       jetstream.JetStream
	prefix   string
	replicas int
	bucket   *adoption.Bucket
	capture  *adoption.Capture
	witness  *witness
	log      *slog.Logger

	// noted tells that latest has changed, begun is closed once the stream of
	// advisories exists.
	noted chan struct{}
	begun chan struct{}
	once  sync.Once

	mu     sync.Mutex
	latest []adoption.Adoption // what the bucket has; nil until it told; guarded by mu
	force  inForce             // guarded by mu
	// changed is closed and replaced when force changes; guarded by mu.
	changed chan struct{}
	ledger  *adoption.Ledger // nil until it is needed; guarded by mu
	rewatch func()           // has the bucket watched anew; nil while it is not watched; guarded by mu
}

// inForce is what the instance last tried to put in force, and how that went.
type inForce struct {
	adopted []adoption.Adoption
	err     error
}

// run follows the bucket until ctx ends.
func (a *adoptions) run(ctx context.Context) {
	var watching sync.WaitGroup
	watching.Go(func() { a.watch(ctx) })
	defer watching.Wait()
	backoff, failed := shortestBackoff, false
	for {
		wait := reviewEvery
		if failed {
			wait, backoff = backoff, min(2*backoff, longestBackoff)
		} else {
			backoff = shortestBackoff
		}
		timer := time.NewTimer(wait)
		select {
		case <-a.noted:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		timer.Stop()
		failed = a.apply(ctx) != nil
	}
}

// watch notes every change of the bucket. When the watching breaks off it is begun
// anew.
func (a *adoptions) watch(ctx context.Context) {
	for ctx.Err() == nil {
		watch, end := context.WithCancel(ctx)
		a.mu.Lock()
		a.rewatch = end
		a.mu.Unlock()
		err := a.bucket.Watch(watch, func(list []adoption.Adoption) {
			a.mu.Lock()
			a.latest = list
			a.mu.Unlock()
			select {
			case a.noted <- struct{}{}:
			default:
			}
		})
		end()
		if err == nil {
			continue
		}
		a.log.Warn("the adopted consumers are not followed; it is tried again", "error", err)
		select {
		case <-time.After(longestBackoff):
		case <-ctx.Done():
		}
	}
}

// some tells whether a consumer is adopted.
func (a *adoptions) some() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.latest) > 0
}

// restore has the bucket, which was made anew, hold the adoptions that are known, and
// watches it anew.
func (a *adoptions) restore(ctx context.Context) error {
	a.mu.Lock()
	list := a.latest
	a.mu.Unlock()
	for _, ad := range list {
		if err := a.bucket.Put(ctx, ad); err != nil {
			return err
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.rewatch != nil {
		a.rewatch()
	}
	return nil
}

// apply puts the latest list in force.
func (a *adoptions) apply(ctx context.Context) error {
	a.mu.Lock()
	list, was := a.latest, a.force
	a.mu.Unlock()
	if list == nil {
		return nil
	}
	err := a.put(ctx, list)
	switch {
	case ctx.Err() != nil:
		return err
	case err != nil && (was.err == nil || err.Error() != was.err.Error()):
		a.log.Error("adopted consumers are not taken over; it is tried again", "error", err)
	case err == nil && (was.err != nil || !slices.Equal(was.adopted, list)):
		a.log.Info("adopted consumers are in force", "consumers", len(list))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.force = inForce{list, err}
	close(a.changed)
	a.changed = make(chan struct{})
	return err
}

// put puts a list in force. A server of a cluster does not answer who asks for a
// stream that another instance is just having made, so what stays without an
// answer is done again.
func (a *adoptions) put(ctx context.Context, list []adoption.Adoption) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	for {
		call, end := context.WithTimeout(ctx, putTimeout)
		err := a.try(call, list)
		end()
		if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			return err
		}
	}
}

func (a *adoptions) try(ctx context.Context, list []adoption.Adoption) error {
	// The instance listens before the stream does: what both hear is one.
	if err := a.witness.listen(list); err != nil {
		return err
	}
	if err := a.capture.Set(ctx, list); err != nil {
		return err
	}
	if len(list) == 0 {
		return nil
	}
	if _, err := a.ledgerNow(ctx); err != nil {
		return err
	}
	a.once.Do(func() { close(a.begun) })
	return nil
}

// await waits until the instance has a list in force for which is holds, and
// returns how putting it in force went.
func (a *adoptions) await(ctx context.Context, is func([]adoption.Adoption) bool) error {
	for {
		a.mu.Lock()
		force, changed := a.force, a.changed
		a.mu.Unlock()
		if force.adopted != nil && is(force.adopted) {
			return force.err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// find returns the adoption of a consumer, or [adoption.ErrNotAdopted]. What the
// instance has not heard of yet it asks the bucket for.
func (a *adoptions) find(ctx context.Context, stream, consumer string) (adoption.Adoption, error) {
	a.mu.Lock()
	i := slices.IndexFunc(a.latest, func(ad adoption.Adoption) bool { return ad.Stream == stream && ad.Consumer == consumer })
	if i >= 0 {
		defer a.mu.Unlock()
		return a.latest[i], nil
	}
	a.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, streams.CallTimeout)
	defer cancel()
	return a.bucket.Get(ctx, stream, consumer)
}

// ledgerNow returns the ledger, which it makes when there is none.
func (a *adoptions) ledgerNow(ctx context.Context) (*adoption.Ledger, error) {
	a.mu.Lock()
	ledger := a.ledger
	a.mu.Unlock()
	if ledger != nil {
		return ledger, nil
	}
	ledger, err := adoption.EnsureLedger(ctx, a.js, a.prefix, a.replicas)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ledger = ledger
	return ledger, nil
}
