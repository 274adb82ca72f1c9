package keeper

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

	"github.com/rebound-mq/rebound/internal/backoff"
	"github.com/rebound-mq/rebound/internal/notify"
	"github.com/rebound-mq/rebound/internal/opstore"
	"github.com/rebound-mq/rebound/internal/streams"
)

const (
	// checkEvery is how often an instance checks that its streams are there.
	checkEvery = 2 * time.Second
	// missingPause is how long after something was found missing everything is checked;
	// many callers find the same missing.
	missingPause = 100 * time.Millisecond
)

// Keeper keeps the streams of the service, including those behind its buckets: it makes
// anew those that vanish while the instance runs. Until then the instance is not ready.
type Keeper struct {
	nc      *nats.Conn
	kept    []*kept
	created func(ctx context.Context, stream string) (time.Time, error)
	storage *opstore.Storage
	missing notify.Signal
	log     *slog.Logger
	full    string // the storage problem last logged; of the checking goroutine

	mu sync.Mutex
	// checked is the connection of the last check, by the client's count of
	// reconnects; guarded by mu.
	checked uint64
	// silent is whether the server answered nothing at the last check; guarded by mu.
	silent bool
}

// Stream is a stream that the service needs, and how to keep it.
type Stream struct {
	Name string
	// Make makes it if it is missing.
	Make func(ctx context.Context) error
	// Renewed is called after any instance has made it anew. It may be nil.
	Renewed func(ctx context.Context) error
	// Wanted reports whether it is needed yet; nil means from the start.
	Wanted func() bool
}

// kept is a stream that is being kept.
type kept struct {
	Stream
	created time.Time // when the stream last seen was made; of the checking goroutine

	mu      sync.Mutex
	problem string // guarded by mu; empty when all is well
}

// Config configures a [Keeper]. All of it is required.
type Config struct {
	// Created returns when a stream was made.
	Created func(ctx context.Context, stream string) (time.Time, error)
	// Storage knows whether the streams accept writes.
	Storage *opstore.Storage
	// Missing triggers a check of everything when it is set.
	Missing notify.Signal
	Log     *slog.Logger
}

// New returns a keeper of streams. Until its first check they count as existing.
func New(nc *nats.Conn, streams []Stream, config Config) *Keeper {
	k := &Keeper{
		nc: nc, created: config.Created, storage: config.Storage, missing: config.Missing, log: config.Log, checked: nc.Stats().Reconnects,
	}
	for _, s := range streams {
		k.kept = append(k.kept, &kept{Stream: s})
	}
	return k
}

// Run checks until ctx ends: every two seconds, and at once when the connection is back or
// something was found missing.
func (k *Keeper) Run(ctx context.Context) {
	back := k.nc.StatusChanged(nats.CONNECTED)
	defer k.nc.RemoveStatusListener(back)
	ticker := time.NewTicker(checkEvery)
	defer ticker.Stop()
	for {
		k.check(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-k.missing:
			backoff.Sleep(ctx, missingPause)
		case <-back:
		}
	}
}

// check checks all streams at once, so that one without a leader does not delay the
// others.
func (k *Keeper) check(ctx context.Context) {
	if !k.nc.IsConnected() {
		return
	}
	connection := k.nc.Stats().Reconnects
	var checks sync.WaitGroup
	pinged := make(chan struct{})
	checks.Go(func() {
		defer close(pinged)
		k.ping(ctx)
	})
	for _, one := range k.kept {
		checks.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, streams.CallTimeout)
			defer cancel()
			err := k.keep(ctx, one)
			switch {
			case errors.Is(ctx.Err(), context.Canceled):
				return
			case ctx.Err() != nil:
				if <-pinged; k.isSilent() {
					return // that says it all
				}
			}
			k.note(one, err)
		})
	}
	checks.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, streams.CallTimeout)
		defer cancel()
		if err := k.storage.Look(ctx); err != nil {
			k.log.Debug("whether the account has room is not known", "error", err)
		}
	})
	checks.Wait()
	k.logFull()
	k.mu.Lock()
	k.checked = connection
	k.mu.Unlock()
}

// ping finds out whether the server answers anything.
func (k *Keeper) ping(ctx context.Context) {
	call, cancel := context.WithTimeout(ctx, streams.CallTimeout)
	defer cancel()
	err := k.nc.FlushWithContext(call)
	if ctx.Err() != nil || err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return // the connection was lost, which is known
	}
	k.mu.Lock()
	was := k.silent
	k.silent = err != nil
	k.mu.Unlock()
	switch {
	case err != nil && !was:
		k.log.Warn("the NATS server does not answer; what waits goes on when it does", "for", streams.CallTimeout)
	case err == nil && was:
		k.log.Info("the NATS server answers again")
	}
}

func (k *Keeper) isSilent() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.silent
}

// keep checks one stream and makes it anew if it is missing. It calls Renewed until that
// succeeds.
func (k *Keeper) keep(ctx context.Context, one *kept) error {
	if one.Wanted != nil && !one.Wanted() {
		return nil
	}
	created, err := k.created(ctx, one.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		k.note(one, fmt.Errorf("stream %s is missing and is being made anew", one.Name))
		if err := one.Make(ctx); err != nil {
			return fmt.Errorf("stream %s is missing and cannot be made anew: %w", one.Name, err)
		}
		created, err = k.created(ctx, one.Name)
	}
	switch {
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled):
		return errors.New("JetStream is switched off at the NATS server, as when its disk is full")
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("stream %s does not answer, as one without a leader", one.Name)
	case err != nil:
		return fmt.Errorf("stream %s cannot be read: %w", one.Name, err)
	case created.Equal(one.created):
		return nil
	case !one.created.IsZero() && one.Renewed != nil:
		if err := one.Renewed(ctx); err != nil {
			return fmt.Errorf("stream %s was made anew and is not in use yet: %w", one.Name, err)
		}
	}
	one.created = created
	return nil
}

// note records the problem of a stream and logs changes.
func (k *Keeper) note(one *kept, err error) {
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
		k.log.Warn("a stream cannot serve; it is tried again", "stream", one.Name, "problem", problem)
	default:
		k.log.Info("a stream serves again", "stream", one.Name)
	}
}

// logFull logs when nothing can be stored, and when it can again.
func (k *Keeper) logFull() {
	full := k.storage.Problem()
	switch {
	case full == k.full:
	case full != "":
		k.log.Warn("nothing can be stored; what waits goes on when there is room", "problem", full)
	default:
		k.log.Info("there is room to store again")
	}
	k.full = full
}

// Problem returns what is missing, nil if nothing is.
func (k *Keeper) Problem() error {
	k.mu.Lock()
	checked, silent := k.checked, k.silent
	k.mu.Unlock()
	if silent {
		return errors.New("the NATS server does not answer: it stands still, or the network to it does")
	}
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
