package opstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/internal/streams"
)

const (
	// refusedFor is how long after the last refusal a store counts as full, which is
	// longer than the longest pause before a retry.
	refusedFor = 5 * time.Second
	// reserve is how much an account must have left to count as not full.
	reserve = 16 << 10
)

// Storage knows whether JetStream accepts writes. It records every try. It also reads the
// account's figures, because schedules may fail to fire while an instance has nothing to
// store.
type Storage struct {
	js       jetstream.JetStream
	missed   func()
	refusals atomic.Uint64

	mu      sync.Mutex // guards the fields below
	at      time.Time  // of the last refusal
	reason  string     // of the last refusal
	account string     // in what way the account is full, empty if it is not
	freed   uint64     // how often the account was full and then was not
}

// NewStorage returns the storage behind js. missed is called when a stream may be missing;
// it may be nil.
func NewStorage(js jetstream.JetStream, missed func()) *Storage {
	return &Storage{js: js, missed: missed}
}

// Refusals returns how often a store was full.
func (s *Storage) Refusals() uint64 { return s.refusals.Load() }

// seen records how a try ended.
func (s *Storage) seen(err error) {
	if err == nil {
		return
	}
	if s.missed != nil && (errors.Is(err, jetstream.ErrNoStreamResponse) || streams.HasCode(err, jetstream.JSErrCodeStreamNotFound)) {
		s.missed()
	}
	reason := fullness(err)
	if reason == "" {
		return
	}
	s.refusals.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at, s.reason = time.Now(), reason
}

// The codes by which JetStream says that a store is full.
const (
	codeAccountResources = jetstream.ErrorCode(10002)
	codeServerResources  = jetstream.ErrorCode(10023)
	codeMemoryResources  = jetstream.ErrorCode(10028)
	codeStorageResources = jetstream.ErrorCode(10047)
	codeStoreFailed      = jetstream.ErrorCode(10077)
)

const accountFull = "the account is at its storage limit"

// fullness says in what way a store is full, empty if err does not say that it is.
func fullness(err error) string {
	var api *jetstream.APIError
	switch {
	case streams.HasCode(err, codeAccountResources):
		return accountFull
	case streams.HasCode(err, codeServerResources, codeMemoryResources, codeStorageResources):
		return "the NATS server has no room left for what is to be stored"
	case streams.HasCode(err, codeStoreFailed) && errors.As(err, &api):
		return "a stream cannot store: " + api.Description
	}
	return ""
}

// Look reads the account's figures.
func (s *Storage) Look(ctx context.Context) error {
	info, err := s.js.AccountInfo(ctx)
	if err != nil {
		return fmt.Errorf("reading the figures of the account: %w", err)
	}
	full := fullTier(info.Tier)
	for _, tier := range info.Tiers {
		full = full || fullTier(tier)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !full && s.account != "":
		s.account = ""
		s.freed++
	case !full:
	case s.account == "":
		s.account = accountFull
		s.refusals.Add(1)
	}
	return nil
}

// timesFreed returns how often the account was full and then was not.
func (s *Storage) timesFreed() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.freed
}

func fullTier(t jetstream.Tier) bool {
	return t.Limits.MaxStore > 0 && t.Store+reserve > uint64(t.Limits.MaxStore)
}

// Problem says why nothing can be stored, empty if it can.
func (s *Storage) Problem() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.account != "" {
		return s.account
	}
	if !s.at.IsZero() && time.Since(s.at) < refusedFor {
		return s.reason
	}
	return ""
}
