package handlers

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go/micro"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/health"
	"github.com/rebound-mq/rebound/schemas"
)

// health answers how the services are, as this instance sees it.
func (s *Service) health(_ context.Context, r micro.Request) (any, error) {
	var request schemas.HealthQuery
	if err := read(r, &request); err != nil {
		return nil, err
	}
	if request.Service != "" {
		if err := events.CheckName(request.Service); err != nil {
			return nil, badRequestError{fmt.Errorf("service %w", err)}
		}
	}
	now := s.clock.Now()
	answer := schemas.Health{Instance: s.id, RefusedReports: s.reports.Refused(), Services: []health.Metrics{}}
	if err := s.Ready(); err != nil {
		answer.NotReady = err.Error()
	}
	answer.Warnings = s.warnings()
	if host, ok := s.registry.Host(); ok {
		answer.Host = &host
	}
	if request.Service == "" {
		answer.Services = s.registry.All(now)
	} else if m, ok := s.registry.Metrics(request.Service, now); ok {
		answer.Services = append(answer.Services, m)
	}
	return answer, nil
}
