package handlers

import (
	"context"
	"runtime/debug"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/internal/adoption"
	"github.com/rebound-mq/rebound/internal/keeper"
	"github.com/rebound-mq/rebound/internal/pauses"
	"github.com/rebound-mq/rebound/internal/policies"
	"github.com/rebound-mq/rebound/internal/streams"
)

// newKeeper returns the keeper of the streams that the service needs.
func (p *parts) newKeeper() *keeper.Keeper {
	return keeper.New(p.nc, append(p.keptStreams(), p.keptBuckets()...), keeper.Config{
		Created: p.created, Storage: p.storage, Missing: p.missing, Log: p.log,
	})
}

// keptStreams are the streams that the service needs.
func (p *parts) keptStreams() []keeper.Stream {
	var kept []keeper.Stream
	for _, config := range streams.Configs(p.streams, p.config.Limits) {
		one := keeper.Stream{Name: config.Name, Make: func(ctx context.Context) error {
			return streams.Ensure(ctx, p.js, []jetstream.StreamConfig{config})
		}}
		switch config.Name {
		case p.streams.Intake(), p.streams.Waiting():
			one.Renewed = func(ctx context.Context) error { return p.ensureConsumers(ctx, config.Name) }
		case p.streams.Outcomes():
			one.Renewed = func(context.Context) error { p.recovery.Reset(); return nil }
		}
		kept = append(kept, one)
	}
	return append(kept, keeper.Stream{Name: p.streams.Advisories(), Wanted: p.adoptions.register.Any, Make: p.adoptions.follower.Apply})
}

// keptBuckets are the streams behind the buckets that the service needs.
func (p *parts) keptBuckets() []keeper.Stream {
	prefix, replicas := p.config.Prefix, p.config.Limits.Replicas
	kept := []keeper.Stream{
		{Name: "KV_" + p.streams.LanesBucket(), Make: p.keys.Reopen},
		{Name: "KV_" + policies.BucketName(prefix), Renewed: p.policies.restore, Make: func(ctx context.Context) error {
			_, err := policies.Ensure(ctx, p.js, prefix, replicas)
			return err
		}},
		{Name: "KV_" + pauses.BucketName(prefix), Renewed: p.pauses.Follower.Restore, Make: func(ctx context.Context) error {
			_, err := pauses.Ensure(ctx, p.js, prefix, replicas)
			return err
		}},
		{Name: "KV_" + adoption.BucketName(prefix), Renewed: p.adoptions.follower.Restore, Make: func(ctx context.Context) error {
			_, err := adoption.Ensure(ctx, p.js, prefix, replicas)
			return err
		}},
		{Name: "KV_" + adoption.LedgerName(prefix), Wanted: p.adoptions.register.Any, Make: func(ctx context.Context) error {
			_, err := adoption.EnsureLedger(ctx, p.js, prefix, replicas)
			return err
		}},
	}
	if p.circuits != nil {
		kept = append(kept, keeper.Stream{Name: "KV_" + p.streams.BreakersBucket(), Make: func(ctx context.Context) error {
			_, err := p.circuits.Ping(ctx) // makes a bucket that is missing
			return err
		}})
	}
	if p.ledger != nil {
		kept = append(kept, keeper.Stream{Name: "KV_" + p.streams.LedgersBucket(), Make: p.ledger.Join})
	}
	return kept
}

// newSweeper returns the sweeper that fires forgotten schedules.
func (p *parts) newSweeper() *keeper.Sweeper {
	return keeper.NewSweeper(p.store, keeper.SweeperConfig{
		Reading: p.reading, Stream: p.streams.Waiting(), Storage: p.storage, Leads: p.member.NoOtherLeads, Now: p.clock.Now, Log: p.log,
		StreamLeader: p.leader.Name,
	})
}

// newAckedSweeper returns the sweeper of acknowledged messages that the server has kept.
func (p *parts) newAckedSweeper() *keeper.AckedSweeper {
	consumers := make([]keeper.Consumer, len(p.pullers))
	for i, puller := range p.pullers {
		consumers[i] = keeper.Consumer{Stream: puller.Stream(), Name: puller.Name()}
	}
	return keeper.NewAckedSweeper(p.reading, consumers, p.member.NoOtherLeads, p.log)
}

// forget drops what was not used since a time and returns the number of gates and
// breakers. The stores still have their state if the key comes back, until it expires.
func (p *parts) forget(since, now time.Time) int {
	gates := p.gates.Forget(since, now)
	breakers := p.breakers.group.Forget(since)
	p.registry.Forget(since, now)
	circuits := p.breakers.circuits()
	p.metrics.Forget(since, func(service string) bool {
		_, ok := p.registry.Metrics(service, circuits, now)
		return ok
	})
	if gates+breakers > 0 {
		p.log.Debug("unused keys were forgotten", "gates", gates, "breakers", breakers)
	}
	return gates + breakers
}

const (
	// forgetAfter is how long the data read for recovery is kept.
	forgetAfter    = time.Minute
	housekeepEvery = 10 * time.Second
)

// housekeep drops what is no longer needed, and prepares for policies that publish. After a
// burst of work it returns memory to the system, which the runtime would do only in part.
func (p *parts) housekeep(ctx context.Context) {
	ticker := time.NewTicker(housekeepEvery)
	defer ticker.Stop()
	var before, released uint64
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		p.recovery.Forget(forgetAfter)
		p.publisher.prepare(ctx, p.policies.inForce())
		p.registry.Forget(time.Time{}, p.clock.Now())
		var handled uint64
		for _, puller := range p.pullers {
			handled += puller.Handled()
		}
		if handled == before && handled != released {
			debug.FreeOSMemory()
			released = handled
		}
		before = handled
	}
}
