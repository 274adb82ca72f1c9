package handlers

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/telemetry"
	"github.com/rebound-mq/rebound/scheduler"
)

// MaxMeteredKeys is how many keys, and how many services, have metrics of their
// own. What comes after them is counted under [OtherKeys], for whoever may submit
// can invent keys.
const MaxMeteredKeys = 2000

// OtherKeys is the service and the operation type under which everything beyond
// [MaxMeteredKeys] is counted.
const OtherKeys = "other"

// The labels.
const (
	labelService   = "service"
	labelOperation = "operation"
	labelResult    = "result"
	labelOutcome   = "outcome"
	labelReason    = "reason"
	labelOf        = "of"
	labelStore     = "store"
)

var (
	// delayBuckets, in seconds, span the delays of policies, from those in memory
	// to hours.
	delayBuckets = []float64{0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600, 21600}
	// durationBuckets, in seconds, span what a request or a worker takes.
	durationBuckets = []float64{0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300}
	// latenessBuckets, in seconds, tell milliseconds apart, and what waited at a gate.
	latenessBuckets = []float64{0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 60, 300, 1800, 3600}
)

// meteredKey is what most metrics are told apart by.
type meteredKey struct{ service, operation string }

// metrics counts and measures what happens at this instance. What is counted is
// what is done, so that a repeat after a crash counts again. It is safe for
// concurrent use.
type metrics struct {
	*telemetry.Metrics
	keys     *telemetry.Series[meteredKey, labels]
	services *telemetry.Series[string, []metric.ObserveOption]

	submissions, attempts, outcomes metric.Int64Counter
	refused, ahead                  metric.Int64Counter
	parked, held, dead              metric.Int64Counter
	delay, duration, lateness       metric.Float64Histogram
}

// labels are those of one key, made once so that counting makes none.
type labels struct {
	observed           []metric.ObserveOption
	counted            []metric.AddOption
	measured           []metric.RecordOption
	accepted, rejected []metric.AddOption
	succeeded, failed  []metric.AddOption
	success            []metric.AddOption
	failure            map[events.Reason][]metric.AddOption
}

func newLabels(k meteredKey) *labels {
	with := func(more ...attribute.KeyValue) metric.MeasurementOption {
		key := []attribute.KeyValue{attribute.String(labelService, k.service), attribute.String(labelOperation, k.operation)}
		return metric.WithAttributeSet(attribute.NewSet(append(key, more...)...))
	}
	counted := func(more ...attribute.KeyValue) []metric.AddOption { return []metric.AddOption{with(more...)} }
	l := &labels{
		observed: []metric.ObserveOption{with()}, counted: counted(), measured: []metric.RecordOption{with()},
		accepted: counted(attribute.String(labelResult, "accepted")), rejected: counted(attribute.String(labelResult, "rejected")),
		succeeded: counted(attribute.String(labelResult, "success")), failed: counted(attribute.String(labelResult, "failure")),
		success: counted(attribute.String(labelOutcome, events.RetrySuccess), attribute.String(labelReason, "")),
		failure: make(map[events.Reason][]metric.AddOption, len(events.Reasons)),
	}
	for _, r := range events.Reasons {
		l.failure[r] = counted(attribute.String(labelOutcome, events.RetryFailed), attribute.String(labelReason, string(r)))
	}
	return l
}

// newMetrics makes the instruments for what happens. Those for how things stand
// are made by [Service.observe].
func newMetrics(instance, version string) (*metrics, error) {
	shown, err := telemetry.NewMetrics(instance, version)
	if err != nil {
		return nil, err
	}
	m := &metrics{
		Metrics: shown,
		keys:    telemetry.NewSeries(MaxMeteredKeys, meteredKey{OtherKeys, OtherKeys}, newLabels),
		services: telemetry.NewSeries(MaxMeteredKeys, OtherKeys, func(service string) *[]metric.ObserveOption {
			return &[]metric.ObserveOption{metric.WithAttributes(attribute.String(labelService, service))}
		}),
	}
	var faults []error
	counter := func(name, unit, help string) metric.Int64Counter {
		c, err := shown.Meter().Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(help))
		faults = append(faults, err)
		return c
	}
	histogram := func(name string, buckets []float64, help string) metric.Float64Histogram {
		h, err := shown.Meter().Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(help), metric.WithExplicitBucketBoundaries(buckets...))
		faults = append(faults, err)
		return h
	}
	m.submissions = counter("rebound.submissions", "{submission}",
		"Submissions that this instance took in or rejected, replays of dead letters and messages of adopted consumers included.")
	m.refused = counter("rebound.submissions.refused", "{submission}",
		"Submissions that were asked for and refused, because as many of their service as may be wait to be taken in.")
	m.ahead = counter("rebound.submissions.ahead", "{submission}",
		"Submissions that this instance took in ahead of their turn, because a service with many stood before them.")
	m.attempts = counter("rebound.attempts", "{attempt}",
		"Attempts that have ended at this instance, by whether the target succeeded. The attempt that failed before the submission is not counted.")
	m.outcomes = counter("rebound.outcomes", "{operation}",
		"Operations that have ended at this instance, by outcome. Those that ended in retryFailed have the reason.")
	m.parked = counter("rebound.operations.parked", "{operation}",
		"How often operations were parked in NATS until they are due. Delays below half a second are waited for in memory and not counted.")
	m.held = counter("rebound.operations.held", "{operation}",
		"How often due operations were moved to a lane because the gate of their key was shut.")
	m.dead = counter("rebound.dead.letters", "{operation}",
		"Operations that were kept as dead letters by this instance.")
	m.delay = histogram("rebound.retry.delay", delayBuckets,
		"The delays in seconds that were decided upon after failures, jitter and the wait for an open breaker included.")
	m.duration = histogram("rebound.attempt.duration", durationBuckets,
		"How long attempts took in seconds: until the target's reply, or until the worker's report.")
	m.lateness = histogram("rebound.attempt.lateness", latenessBuckets,
		"How many seconds after they were due attempts began, of all keys together. Operations that a shut gate held are late by that time.")
	return m, errors.Join(faults...)
}

// of returns the labels of an operation's key.
func (m *metrics) of(op *events.Operation) *labels { return m.key(op.Service, op.Operation) }

func (m *metrics) key(service, operation string) *labels {
	return m.keys.Of(meteredKey{service, operation})
}

// accepted counts a submission that was taken in.
func (m *metrics) accepted(ctx context.Context, op *events.Operation) {
	m.submissions.Add(ctx, 1, m.of(op).accepted...)
}

// rejected counts a submission that was not.
func (m *metrics) rejected(ctx context.Context, service, operation string) {
	m.submissions.Add(ctx, 1, m.key(service, operation).rejected...)
}

// began measures how late an attempt begins; it is a [scheduler.Pipeline]'s Began.
func (m *metrics) began(ctx context.Context, _ *events.Operation, late time.Duration) {
	m.lateness.Record(ctx, late.Seconds())
}

// attempted counts an attempt that has ended; it is a [scheduler.Pipeline]'s
// Attempted.
func (m *metrics) attempted(ctx context.Context, op *events.Operation, r scheduler.Reply) {
	l := m.of(op)
	result := l.succeeded
	if r.Failed {
		result = l.failed
	}
	m.attempts.Add(ctx, 1, result...)
	m.duration.Record(ctx, r.Duration.Seconds(), l.measured...)
}

// decided measures a delay.
func (m *metrics) decided(ctx context.Context, op *events.Operation, delay time.Duration) {
	m.delay.Record(ctx, delay.Seconds(), m.of(op).measured...)
}

// ended counts an outcome.
func (m *metrics) ended(ctx context.Context, op *events.Operation, o events.Outcome) {
	l := m.of(op)
	outcome := l.success
	if o.Outcome == events.RetryFailed {
		outcome = l.failure[o.Reason]
	}
	m.outcomes.Add(ctx, 1, outcome...)
}
