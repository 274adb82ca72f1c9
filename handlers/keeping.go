package handlers

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/internal/adoption"
	"github.com/rebound-mq/rebound/internal/keeper"
	"github.com/rebound-mq/rebound/internal/policies"
	"github.com/rebound-mq/rebound/internal/streams"
)

// newKeeper returns what keeps the streams that the service needs.
func (s *Service) newKeeper() *keeper.Keeper {
	return keeper.New(s.nc, append(s.keptStreams(), s.keptBuckets()...), keeper.Config{
		Created: s.created, Storage: s.storage, Missing: s.missing, Log: s.log,
	})
}

// keptStreams are the streams that the service needs.
func (s *Service) keptStreams() []keeper.Stream {
	var kept []keeper.Stream
	for _, config := range streams.Configs(s.streams, s.config.Limits) {
		one := keeper.Stream{Name: config.Name, Make: func(ctx context.Context) error {
			return streams.Ensure(ctx, s.js, []jetstream.StreamConfig{config})
		}}
		switch config.Name {
		case s.streams.Intake(), s.streams.Waiting():
			one.Renewed = func(ctx context.Context) error { return s.ensureConsumers(ctx, config.Name) }
		case s.streams.Outcomes():
			one.Renewed = func(context.Context) error { s.recovery.Reset(); return nil }
		}
		kept = append(kept, one)
	}
	return append(kept, keeper.Stream{Name: s.streams.Advisories(), Wanted: s.adoptions.register.Any, Make: s.adoptions.follower.Apply})
}

// keptBuckets are the streams behind the buckets that the service needs. Those of
// breakers and lanes are kept by those who use them.
func (s *Service) keptBuckets() []keeper.Stream {
	prefix, replicas := s.config.Prefix, s.config.Limits.Replicas
	kept := []keeper.Stream{
		{Name: "KV_" + policies.BucketName(prefix), Renewed: s.follower.restore, Make: func(ctx context.Context) error {
			_, err := policies.Ensure(ctx, s.js, prefix, replicas)
			return err
		}},
		{Name: "KV_" + adoption.BucketName(prefix), Renewed: s.adoptions.follower.Restore, Make: func(ctx context.Context) error {
			_, err := adoption.Ensure(ctx, s.js, prefix, replicas)
			return err
		}},
		{Name: "KV_" + adoption.LedgerName(prefix), Wanted: s.adoptions.register.Any, Make: func(ctx context.Context) error {
			_, err := adoption.EnsureLedger(ctx, s.js, prefix, replicas)
			return err
		}},
	}
	if s.ledger != nil {
		kept = append(kept, keeper.Stream{Name: "KV_" + s.streams.LedgersBucket(), Make: s.ledger.Join})
	}
	return kept
}

// newSweeper returns what fires what the server forgot.
func (s *Service) newSweeper() *keeper.Sweeper {
	return keeper.NewSweeper(s.store, keeper.SweeperConfig{
		Reading: s.reading, Stream: s.streams.Waiting(), Storage: s.storage, Leads: s.member.NoOtherLeads, Now: s.clock.Now, Log: s.log,
		StreamLeader: s.leader.Name,
	})
}

// forget drops what was not used since a time, and returns how many gates and breakers.
// What the stores hold of it is found again when the key comes back, and expires there.
func (s *Service) forget(since, now time.Time) int {
	gates := s.gates.Forget(since, now)
	breakers := s.breakers.group.Forget(since)
	s.registry.Forget(since, now)
	s.metrics.Forget(since, func(service string) bool {
		_, ok := s.registry.Metrics(service, now)
		return ok
	})
	if gates+breakers > 0 {
		s.log.Debug("keys that were not used are forgotten", "gates", gates, "breakers", breakers)
	}
	return gates + breakers
}

// created returns when a stream was made. What is asked of the leader of the waiting
// operations measures the clock, too.
func (s *Service) created(ctx context.Context, name string) (time.Time, error) {
	if name == s.streams.Waiting() {
		info, err := s.leader.Ask(ctx)
		if err != nil {
			return time.Time{}, err
		}
		return info.Created, nil
	}
	stream, err := s.js.Stream(ctx, name)
	if err != nil {
		return time.Time{}, err
	}
	return stream.CachedInfo().Created, nil
}

// askLeader asks the leader of the waiting operations on the connection for reading.
func (s *Service) askLeader(ctx context.Context) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, streams.CallTimeout)
	defer cancel()
	stream, err := s.reading.Stream(ctx, s.streams.Waiting())
	if err != nil {
		return nil, fmt.Errorf("asking the leader of stream %s: %w", s.streams.Waiting(), err)
	}
	return stream.CachedInfo(), nil
}
