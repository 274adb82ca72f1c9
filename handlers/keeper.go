package handlers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/internal/adoption"
	"github.com/rebound-mq/rebound/internal/policies"
	"github.com/rebound-mq/rebound/internal/streams"
)

const (
	// keepEvery is how often an instance checks that its streams are there.
	keepEvery = 2 * time.Second
	// keepPause is how long after something was found missing everything is checked.
	keepPause = 100 * time.Millisecond
	// keepTimeout bounds the check of one stream.
	keepTimeout = 5 * time.Second
)

// keeper sees to it that the streams of the service exist, those behind its buckets
// included, and makes anew what vanished while the instance runs. Until then the
// instance is not ready.
type keeper struct {
	nc   *nats.Conn
	kept []*kept
	log  *slog.Logger
	// created returns when a stream was made.
	created func(ctx context.Context, stream string) (time.Time, error)
	storage *storage
	full    string // what was last logged of the storage; of the checking goroutine

	// wake is full when something is to be checked at once.
	wake chan struct{}

	mu sync.Mutex
	// checked is the connection that the last check went over, as the client counts
	// its reconnects; guarded by mu.
	checked uint64
}

// kept is a stream that the service needs.
type kept struct {
	stream string
	// make makes it when it is missing.
	make func(ctx context.Context) error
	// renewed does what follows from its being another one than before, whoever made
	// it; nil is nothing.
	renewed func(ctx context.Context) error
	// wanted tells whether it is needed yet; nil is from the start.
	wanted func() bool

	created time.Time // of the one that was seen last; of the checking goroutine

	mu      sync.Mutex
	problem string // guarded by mu; empty when all is well
}

// newKeeper lists what the service needs. The buckets of breakers and lanes are kept
// by those who use them.
func (s *Service) newKeeper() *keeper {
	k := &keeper{nc: s.nc, log: s.log, created: s.created, storage: s.storage, wake: make(chan struct{}, 1), checked: s.nc.Stats().Reconnects}
	for _, config := range streams.Configs(s.streams, s.config.Limits) {
		name := config.Name
		one := &kept{stream: name, make: func(ctx context.Context) error {
			return streams.Ensure(ctx, s.js, []jetstream.StreamConfig{config})
		}}
		switch name {
		case s.streams.Intake(), s.streams.Waiting():
			one.renewed = func(ctx context.Context) error { return s.ensureConsumers(ctx, name) }
		case s.streams.Outcomes():
			one.renewed = func(context.Context) error { s.recovery.reset(); return nil }
		}
		k.kept = append(k.kept, one)
	}
	prefix, replicas := s.config.Prefix, s.config.Limits.Replicas
	k.kept = append(k.kept,
		&kept{stream: "KV_" + policies.BucketName(prefix), renewed: s.follower.restore, make: func(ctx context.Context) error {
			_, err := policies.Ensure(ctx, s.js, prefix, replicas)
			return err
		}},
		&kept{stream: "KV_" + adoption.BucketName(prefix), renewed: s.adoptions.follower.Restore, make: func(ctx context.Context) error {
			_, err := adoption.Ensure(ctx, s.js, prefix, replicas)
			return err
		}},
		&kept{stream: s.streams.Advisories(), wanted: s.adoptions.register.Any, make: s.adoptions.follower.Apply},
		&kept{stream: "KV_" + adoption.LedgerName(prefix), wanted: s.adoptions.register.Any, make: func(ctx context.Context) error {
			_, err := adoption.EnsureLedger(ctx, s.js, prefix, replicas)
			return err
		}},
	)
	if s.ledger != nil {
		k.kept = append(k.kept, &kept{stream: "KV_" + s.streams.LedgersBucket(), make: s.ledger.Join})
	}
	return k
}

// run checks until ctx ends: now and then, and at once when the connection came back
// or somebody found something missing.
func (k *keeper) run(ctx context.Context) {
	back := k.nc.StatusChanged(nats.CONNECTED)
	defer k.nc.RemoveStatusListener(back)
	ticker := time.NewTicker(keepEvery)
	defer ticker.Stop()
	for {
		k.check(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-k.wake:
			pause(ctx, keepPause) // many find the same missing
		case <-back:
		}
	}
}

// missed has everything checked soon.
func (k *keeper) missed() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// check checks each stream, all at once: one whose leader is away keeps nobody
// waiting.
func (k *keeper) check(ctx context.Context) {
	if !k.nc.IsConnected() {
		return
	}
	connection := k.nc.Stats().Reconnects
	var checks sync.WaitGroup
	for _, one := range k.kept {
		checks.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, keepTimeout)
			defer cancel()
			if err := k.keep(ctx, one); ctx.Err() == nil || errors.Is(ctx.Err(), context.DeadlineExceeded) {
				k.note(one, err)
			}
		})
	}
	checks.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, keepTimeout)
		defer cancel()
		if err := k.storage.look(ctx); err != nil {
			k.log.Debug("whether the account has room is not known", "error", err)
		}
	})
	checks.Wait()
	k.tellFull()
	k.mu.Lock()
	k.checked = connection
	k.mu.Unlock()
}

// keep checks one stream and makes it anew when it is missing. What follows from its
// being another one is done until it succeeds.
func (k *keeper) keep(ctx context.Context, one *kept) error {
	if one.wanted != nil && !one.wanted() {
		return nil
	}
	created, err := k.created(ctx, one.stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		k.note(one, fmt.Errorf("stream %s is missing and is being made anew", one.stream))
		if err := one.make(ctx); err != nil {
			return fmt.Errorf("stream %s is missing and cannot be made anew: %w", one.stream, err)
		}
		created, err = k.created(ctx, one.stream)
	}
	switch {
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled):
		return errors.New("JetStream is switched off at the NATS server, as when its disk is full")
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("stream %s does not answer, as one without a leader", one.stream)
	case err != nil:
		return fmt.Errorf("stream %s cannot be read: %w", one.stream, err)
	case created.Equal(one.created):
		return nil
	case !one.created.IsZero() && one.renewed != nil:
		if err := one.renewed(ctx); err != nil {
			return fmt.Errorf("stream %s was made anew and is not in use yet: %w", one.stream, err)
		}
	}
	one.created = created
	return nil
}

// note keeps how a stream is, and logs what is news.
func (k *keeper) note(one *kept, err error) {
	problem := ""
	if err != nil {
		problem = err.Error()
	}
	one.mu.Lock()
	was := one.problem
	one.problem = problem
	one.mu.Unlock()
	switch {
	case problem == was:
	case problem != "":
		k.log.Warn("a stream cannot serve; it is tried again", "stream", one.stream, "problem", problem)
	default:
		k.log.Info("a stream serves again", "stream", one.stream)
	}
}

// tellFull logs when nothing can be stored, and when it can again.
func (k *keeper) tellFull() {
	full := k.storage.problem()
	switch {
	case full == k.full:
	case full != "":
		k.log.Warn("nothing can be stored; what waits goes on when there is room", "problem", full)
	default:
		k.log.Info("there is room to store again")
	}
	k.full = full
}

// problem says what is missing, nil when nothing is.
func (k *keeper) problem() error {
	k.mu.Lock()
	checked := k.checked
	k.mu.Unlock()
	if k.nc.Stats().Reconnects != checked {
		return errors.New("the connection has just come back and the streams are being checked")
	}
	var problems []string
	for _, one := range k.kept {
		one.mu.Lock()
		if one.problem != "" {
			problems = append(problems, one.problem)
		}
		one.mu.Unlock()
	}
	if len(problems) == 0 {
		return nil
	}
	slices.Sort(problems)
	return errors.New(strings.Join(slices.Compact(problems), "; "))
}
