package handlers

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/micro"

	"github.com/rebound-mq/rebound/health"
	"github.com/rebound-mq/rebound/internal/cluster"
	"github.com/rebound-mq/rebound/schemas"
)

// join makes the service a member of the instances.
func (s *Service) join() (*cluster.Member, error) {
	pullers := make([]cluster.Puller, len(s.dues))
	for i, p := range s.dues {
		pullers[i] = p
	}
	return cluster.Join(s.nc, cluster.Config{
		Prefix: s.config.Prefix, ID: s.id, Version: s.config.Version, Started: s.started, Now: s.clock.Now,
		Limits: s.config.Backpressure, Host: s.host, StoreDelay: s.storeDelay, Policies: s.follower.startedWith,
		Gates: s.gates, Limit: s.inFlight, Pullers: pullers, Publish: s.store.Publish, Log: s.log,
	})
}

// host returns how busy the host is, idle until it is measured.
func (s *Service) host() health.Host {
	if s.config.Host != nil {
		s.registry.SetHost(s.config.Host())
	}
	h, _ := s.registry.Host()
	return h
}

// storeDelay returns how long NATS or Redis takes to answer, whichever is slower.
func (s *Service) storeDelay(now time.Time) time.Duration {
	return max(s.store.Delay(now), s.breakers.group.Delay())
}

// Coordination returns how the instances are, as this one sees them.
func (s *Service) Coordination() health.Coordination { return s.member.View(s.clock.Now()) }

// coordination answers how the instances are.
func (s *Service) coordination(context.Context, micro.Request) (any, error) {
	return schemas.Coordination{Instance: s.id, Coordination: s.Coordination(), Sharing: s.breakers.coordination()}, nil
}
