package handlers

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/pull"
)

// observe makes the instruments for how things stand. They are read when somebody
// looks, from what this instance has in memory: neither NATS nor a store is asked.
func (s *Service) observe(dues []*pull.Puller) error {
	g := &gauges{service: s, dues: dues}
	var faults []error
	var read []metric.Observable
	whole := func(name, unit, help string) metric.Int64Observable {
		o, err := s.metrics.Meter().Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(help))
		faults, read = append(faults, err), append(read, o)
		return o
	}
	number := func(name, unit, help string) metric.Float64Observable {
		o, err := s.metrics.Meter().Float64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(help))
		faults, read = append(faults, err), append(read, o)
		return o
	}
	g.shared = whole("rebound.coordination.shared", "",
		"Whether this instance shares its circuit breakers and limits with the others (1) or goes on alone (0), because their store is out of reach. For limits that is known as of their last use.")
	g.instances = whole("rebound.instances", "{instance}", "Instances that this one knows, itself included.")
	g.backpressure = whole("rebound.backpressure", "",
		"Whether global backpressure is on (1) or off (0). While it is on, due operations are held unless they are critical or their policy says otherwise.")
	g.inHand = whole("rebound.operations.in.hand", "{operation}",
		"Due operations that this instance has in hand: in an attempt, waiting at a gate or for the rest of a delay.")
	g.inFlight = whole("rebound.attempts.in.flight", "{attempt}", "Attempts that this instance is waiting for.")
	g.counted = whole("rebound.lane.operations", "{operation}",
		"Operations in the lanes of a key as this instance counted them last, which it does as far as the gate may let them out.")
	g.open = whole("rebound.gate.open", "",
		"Whether the gate of a key lets operations of normal priority go to their target now (1) or holds them (0).")
	g.governed = whole("rebound.governor.active", "", "Whether the governor paces the release of a key's operations (1) or not (0).")
	g.rate = number("rebound.governor.rate", "{operation}/s",
		"How many operations a second the governor of a key lets go at this instance. There is none while the governor is off.")
	g.breaker = whole("rebound.breaker.state", "", "The state of a key's circuit breaker: 0 is closed, 1 half-open, 2 open.")
	g.score = number("rebound.service.health.score", "", "The health of a service as this instance sees it, from 0 (ill) to 100 (well).")
	reports, err := s.metrics.Meter().Int64ObservableCounter("rebound.worker.reports", metric.WithUnit("{report}"),
		metric.WithDescription("Reports of workers on attempts that this instance accepted or refused."))
	g.reports = reports
	_, registered := s.metrics.Meter().RegisterCallback(g.observe, append(read, reports)...)
	if err := errors.Join(append(faults, err, registered)...); err != nil {
		return fmt.Errorf("making the metrics: %w", err)
	}
	return nil
}

// gauges reads how things stand at an instance.
type gauges struct {
	service *Service
	dues    []*pull.Puller

	shared, instances, backpressure, inHand metric.Int64Observable
	inFlight, counted, open, governed       metric.Int64Observable
	breaker                                 metric.Int64Observable
	rate, score                             metric.Float64Observable
	reports                                 metric.Int64Observable
}

// observe implements [metric.Callback].
func (g *gauges) observe(_ context.Context, o metric.Observer) error {
	now := g.service.clock.Now()
	g.instance(o)
	g.gates(o, now)
	g.breakers(o)
	g.scores(o, now)
	return nil
}

// instance reads what concerns the instance as a whole.
func (g *gauges) instance(o metric.Observer) {
	s := g.service
	for _, c := range []struct {
		of, store string
		shared    bool
	}{
		{"breakers", s.breakers.shared, s.breakers.group.Status().Shared},
		{"limits", storeName(s.leases.Store), !s.leases.Divided()},
	} {
		o.ObserveInt64(g.shared, truth(c.shared), metric.WithAttributes(attribute.String(labelOf, c.of), attribute.String(labelStore, c.store)))
	}
	v := s.Coordination()
	o.ObserveInt64(g.instances, int64(v.TotalInstances))
	o.ObserveInt64(g.backpressure, truth(v.GlobalBackpressure))
	inHand := 0
	for _, p := range g.dues {
		inHand += p.Unacked()
	}
	o.ObserveInt64(g.inHand, int64(inHand))
	for result, n := range map[string]uint64{"accepted": s.workReports.taken.Load(), "refused": s.workReports.refused.Load()} {
		o.ObserveInt64(g.reports, int64(n), metric.WithAttributes(attribute.String(labelResult, result)))
	}
}

// standing is how the gates stand whose keys have the same labels.
type standing struct {
	inFlight, held int
	shut, governed bool
	rate           float64
}

// gates reads how the gates stand. Of keys that are taken together the sums count,
// and one that is shut or governed.
func (g *gauges) gates(o metric.Observer, now time.Time) {
	all := make(map[*labels]standing)
	for _, k := range g.service.gates.Standings(now) {
		l := g.service.metrics.keyed(k.Key)
		s := all[l]
		s.inFlight += k.InFlight
		s.held += k.Held
		s.rate += k.Rate
		s.shut, s.governed = s.shut || k.Shut, s.governed || k.Governed
		all[l] = s
	}
	for l, s := range all {
		o.ObserveInt64(g.inFlight, int64(s.inFlight), l.observed...)
		o.ObserveInt64(g.counted, int64(s.held), l.observed...)
		o.ObserveInt64(g.open, truth(!s.shut), l.observed...)
		o.ObserveInt64(g.governed, truth(s.governed), l.observed...)
		if s.governed {
			o.ObserveFloat64(g.rate, s.rate, l.observed...)
		}
	}
}

// severity is the value of a breaker's state, the larger the worse.
var severity = [...]int64{breaker.Closed: 0, breaker.HalfOpen: 1, breaker.Open: 2}

// breakers reads the states of the breakers, of keys that are taken together the
// worst.
func (g *gauges) breakers(o metric.Observer) {
	worst := make(map[*labels]int64)
	for key, state := range g.service.breakers.group.States() {
		l := g.service.metrics.keyed(key)
		worst[l] = max(worst[l], severity[state])
	}
	for l, v := range worst {
		o.ObserveInt64(g.breaker, v, l.observed...)
	}
}

// scores reads the health of the services, of those that are taken together the
// worst.
func (g *gauges) scores(o metric.Observer, now time.Time) {
	worst := make(map[*[]metric.ObserveOption]float64)
	for _, m := range g.service.registry.All(now) {
		service := g.service.metrics.services.Of(m.ServiceType)
		if score, ok := worst[service]; !ok || m.HealthScore < score {
			worst[service] = m.HealthScore
		}
	}
	for service, score := range worst {
		o.ObserveFloat64(g.score, score, *service...)
	}
}

// keyed returns the labels of a key as gates and breakers write it.
func (m *metrics) keyed(key string) *labels {
	service, operation, err := events.SplitKey(key)
	if err != nil {
		return m.key(events.Invalid, events.Invalid)
	}
	return m.key(service, operation)
}

func truth(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
