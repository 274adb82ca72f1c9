package telemetry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/health"
	"github.com/rebound-mq/rebound/scheduler"
	"github.com/rebound-mq/rebound/scheduler/gate"
)

// openGate is what the metrics give as the cause of operations that are being released.
const openGate gate.Cause = "open"

// Sources are the functions from which [Observe] reads the state of an instance. They are
// called for every scrape, so they must answer from memory, without asking NATS or a
// store. None may be nil.
type Sources struct {
	// Now is the clock.
	Now func() time.Time
	// Instance returns the state of the instance as a whole.
	Instance func() Standing
	Gates    interface {
		Standings(now time.Time) []scheduler.KeyReport
	}
	Breakers interface {
		States() map[string]breaker.State
	}
	Health interface {
		All(circuits map[string]breaker.State, now time.Time) []health.Metrics
	}
}

// Standing is the state of an instance as a whole.
type Standing struct {
	// Breakers and Limits say where breakers and limits are shared.
	Breakers, Limits Sharing
	// Instances counts the instances that this one knows, including itself.
	Instances int
	// Backpressure is whether global backpressure is on.
	Backpressure bool
	// InHand counts the due operations that the instance has in hand, and InHandLimit is how
	// many it may have now.
	InHand, InHandLimit int
	// Overload is 1 when the instance is at a limit of what it may wait for CPU.
	Overload float64
	// Overdue counts the operations whose schedules the server has not fired in time and that
	// cannot be made due yet, Forgotten those that this instance made due since the start.
	Overdue   int
	Forgotten uint64
	// ReportsAccepted and ReportsRefused count the reports of workers since the start.
	ReportsAccepted, ReportsRefused uint64
}

// Sharing says where instances share something, and whether they do now.
type Sharing struct {
	Store  string
	Shared bool
}

// Observe makes the instruments for the state of an instance.
func Observe(m *Metrics, s Sources) error {
	g := &gauges{Sources: s, metrics: m}
	var errs []error
	var read []metric.Observable
	whole := func(name, unit, help string) metric.Int64Observable {
		o, err := m.Meter().Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(help))
		errs, read = append(errs, err), append(read, o)
		return o
	}
	number := func(name, unit, help string) metric.Float64Observable {
		o, err := m.Meter().Float64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(help))
		errs, read = append(errs, err), append(read, o)
		return o
	}
	g.shared = whole("rebound.coordination.shared", "",
		"Whether this instance shares its circuit breakers and limits with the others (1) or goes on alone (0), because their store is out of reach. For limits that is known as of their last use.")
	g.instances = whole("rebound.instances", "{instance}", "Instances that this one knows, itself included.")
	g.backpressure = whole("rebound.backpressure", "",
		"Whether global backpressure is on (1) or off (0): most services fail, too many attempts are in flight, or the stores are slow.")
	g.inHand = whole("rebound.operations.in.hand", "{operation}",
		"Due operations that this instance has in hand: in an attempt, waiting at a gate or for the rest of a delay.")
	g.inHandLimit = whole("rebound.operations.in.hand.limit", "{operation}",
		"How many due operations this instance may have in hand now. It is lower while the instance cannot keep up, its memory is almost used up, a store is slow or too many attempts are in flight.")
	g.overload = number("rebound.overload", "",
		"How far this instance is from keeping up for want of CPU: 1 is at a limit, 0 is no waiting. Others take over from an instance that is overloaded more than they are.")
	g.inFlight = whole("rebound.attempts.in.flight", "{attempt}", "Attempts that this instance is waiting for.")
	g.counted = whole("rebound.lane.operations", "{operation}",
		"Operations in the lanes of a key, over all instances, as this instance counted them last. Take the maximum over the instances.")
	g.held = whole("rebound.held.operations", "{operation}",
		"Operations that do not go on by what holds them, over all instances, as this instance counted them last. Take the maximum over the instances.")
	g.open = whole("rebound.gate.open", "",
		"Whether the gate of a key lets operations of normal priority go to their target now (1) or holds them (0).")
	g.governed = whole("rebound.governor.active", "", "Whether the governor paces the release of a key's operations (1) or not (0).")
	g.rate = number("rebound.governor.rate", "{operation}/s",
		"How many operations a second the governor of a key lets go at this instance. There is none while the governor is off.")
	g.breaker = whole("rebound.breaker.state", "", "The state of a key's circuit breaker: 0 is closed, 1 half-open, 2 open.")
	g.score = number("rebound.service.health.score", "", "The health of a service as all instances measure it, from 0 (ill) to 100 (well); at most 40 while a breaker is not closed or nobody listens on a target.")
	g.overdue = whole("rebound.operations.overdue", "{operation}",
		"Operations whose time is over by more than five seconds and that cannot be made due, because nothing can be stored. The leader of the instances counts them; the others say 0.")
	forgotten, forgottenErr := m.Meter().Int64ObservableCounter("rebound.operations.forgotten", metric.WithUnit("{operation}"),
		metric.WithDescription("Operations that the NATS server had not fired in time and that this instance made due."))
	g.forgotten, errs, read = forgotten, append(errs, forgottenErr), append(read, forgotten)
	reports, err := m.Meter().Int64ObservableCounter("rebound.worker.reports", metric.WithUnit("{report}"),
		metric.WithDescription("Reports of workers on attempts that this instance accepted or refused."))
	g.reports = reports
	_, registered := m.Meter().RegisterCallback(g.observe, append(read, reports)...)
	if err := errors.Join(append(errs, err, registered)...); err != nil {
		return fmt.Errorf("making the metrics: %w", err)
	}
	return nil
}

// gauges read the state of an instance.
type gauges struct {
	Sources
	metrics *Metrics

	shared, instances, backpressure   metric.Int64Observable
	inHand, inHandLimit               metric.Int64Observable
	overload                          metric.Float64Observable
	inFlight, counted, open, governed metric.Int64Observable
	held, breaker                     metric.Int64Observable
	rate, score                       metric.Float64Observable
	reports, overdue, forgotten       metric.Int64Observable
}

// observe implements [metric.Callback].
func (g *gauges) observe(_ context.Context, o metric.Observer) error {
	now := g.Now()
	g.instance(o)
	g.gates(o, now)
	g.breakers(o)
	g.scores(o, now)
	return nil
}

// instance reads what concerns the instance as a whole.
func (g *gauges) instance(o metric.Observer) {
	s := g.Instance()
	for of, c := range map[string]Sharing{"breakers": s.Breakers, "limits": s.Limits} {
		o.ObserveInt64(g.shared, truth(c.Shared), metric.WithAttributes(attribute.String(labelOf, of), attribute.String(labelStore, c.Store)))
	}
	o.ObserveInt64(g.instances, int64(s.Instances))
	o.ObserveInt64(g.backpressure, truth(s.Backpressure))
	o.ObserveInt64(g.inHand, int64(s.InHand))
	o.ObserveInt64(g.inHandLimit, int64(s.InHandLimit))
	o.ObserveFloat64(g.overload, s.Overload)
	o.ObserveInt64(g.overdue, int64(s.Overdue))
	o.ObserveInt64(g.forgotten, int64(s.Forgotten))
	for result, n := range map[string]uint64{"accepted": s.ReportsAccepted, "refused": s.ReportsRefused} {
		o.ObserveInt64(g.reports, int64(n), metric.WithAttributes(attribute.String(labelResult, result)))
	}
}

// keyStanding is the state of all gates whose keys have the same labels.
type keyStanding struct {
	inFlight, held int
	shut, governed bool
	rate           float64
}

// gates reads the state of the gates. Keys with the same labels are added up, and count
// as shut or governed if one of them is.
func (g *gauges) gates(o metric.Observer, now time.Time) {
	all, held := make(map[*labels]keyStanding), make(map[gate.Cause]int)
	for _, c := range gate.Causes {
		held[c] = 0
	}
	for _, k := range g.Gates.Standings(now) {
		l := g.metrics.keyed(k.Key)
		s := all[l]
		s.inFlight += k.InFlight
		s.held += k.Held
		held[k.Cause] += max(k.Held, k.HeldUp())
		s.rate += k.Rate
		s.shut, s.governed = s.shut || k.Shut, s.governed || k.Governed
		all[l] = s
	}
	for cause, n := range held {
		if cause == "" {
			cause = openGate
		}
		o.ObserveInt64(g.held, int64(n), metric.WithAttributes(attribute.String(labelCause, string(cause))))
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

// breakers reads the states of the breakers; of keys with the same labels, the worst.
func (g *gauges) breakers(o metric.Observer) {
	worst := make(map[*labels]int64)
	for key, state := range g.Breakers.States() {
		l := g.metrics.keyed(key)
		worst[l] = max(worst[l], severity[state])
	}
	for l, v := range worst {
		o.ObserveInt64(g.breaker, v, l.observed...)
	}
}

// scores reads the health of the services; of those with the same labels, the worst.
func (g *gauges) scores(o metric.Observer, now time.Time) {
	worst := make(map[*[]metric.ObserveOption]float64)
	for _, m := range g.Health.All(health.Circuits(g.Breakers.States()), now) {
		service := g.metrics.services.Of(m.ServiceType)
		if score, ok := worst[service]; !ok || m.HealthScore < score {
			worst[service] = m.HealthScore
		}
	}
	for service, score := range worst {
		o.ObserveFloat64(g.score, score, *service...)
	}
}

// keyed returns the labels of a key of the form service:operation.
func (m *Metrics) keyed(key string) *labels {
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
