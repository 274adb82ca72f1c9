package telemetry

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/scheduler"
)

// The bounds of the labels. Anyone who may submit can invent keys, so those beyond the
// bounds are counted together. Unused keys are forgotten and make way for others.
const (
	// MaxMeteredKeys is how many keys, and how many services, have metrics of their own.
	MaxMeteredKeys = 500
	// MaxMeasuredKeys is how many keys have histograms of their own, which take as much
	// memory as everything else.
	MaxMeasuredKeys = 100
	// OtherKeys is the service and the operation type of the keys beyond the bounds.
	OtherKeys = "other"
)

// The labels.
const (
	labelService   = "service"
	labelOperation = "operation"
	labelResult    = "result"
	labelOutcome   = "outcome"
	labelReason    = "reason"
	labelOf        = "of"
	labelCause     = "cause"
	labelStore     = "store"
)

var (
	// delayBuckets, in seconds, span the delays of policies, from milliseconds to hours.
	delayBuckets = []float64{0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600, 21600}
	// durationBuckets, in seconds, span the durations of requests and workers.
	durationBuckets = []float64{0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300}
	// latenessBuckets, in seconds, resolve milliseconds, and span waits at a gate.
	latenessBuckets = []float64{0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 60, 300, 1800, 3600}
)

// meteredKey holds the labels of most metrics.
type meteredKey struct{ service, operation string }

// Metrics count and measure what happens at one instance. A repeat after a crash counts
// again. They are safe for concurrent use.
type Metrics struct {
	*Registry
	keys     *Series[meteredKey, labels]
	measured *Series[meteredKey, meteredKey]
	services *Series[string, []metric.ObserveOption]

	submissions, attempts, outcomes Counter
	refused, ahead                  Counter
	parked, held, dead, stranded    Counter
	delay, duration, lateness       Histogram
}

// labels are the labels of one key, made once so that counting allocates nothing.
type labels struct {
	used               atomic.Int64 // when something was counted last, Unix nanoseconds
	observed           []metric.ObserveOption
	counted, measured  []string
	accepted, rejected []string
	succeeded, failed  []string
	success            []string
	failure            map[events.Reason][]string
}

func (m *Metrics) newLabels(k meteredKey) *labels {
	with := func(more ...string) []string { return append([]string{k.service, k.operation}, more...) }
	measured := m.measured.Of(k)
	l := &labels{
		observed: []metric.ObserveOption{metric.WithAttributes(attribute.String(labelService, k.service), attribute.String(labelOperation, k.operation))},
		counted:  with(), measured: []string{measured.service, measured.operation},
		accepted: with("accepted"), rejected: with("rejected"), succeeded: with("success"), failed: with("failure"),
		success: with(events.RetrySuccess, ""), failure: make(map[events.Reason][]string, len(events.Reasons)),
	}
	for _, r := range events.Reasons {
		l.failure[r] = with(events.RetryFailed, string(r))
	}
	l.used.Store(time.Now().UnixNano())
	return l
}

// NewMetrics makes the instruments for events. [Observe] makes those for the state of the
// instance.
func NewMetrics(instance, version string) (*Metrics, error) {
	registry, err := NewRegistry(instance, version)
	if err != nil {
		return nil, err
	}
	other := meteredKey{OtherKeys, OtherKeys}
	m := &Metrics{
		Registry: registry,
		measured: NewSeries(MaxMeasuredKeys, other, func(k meteredKey) *meteredKey { return &k }),
		services: NewSeries(MaxMeteredKeys, OtherKeys, func(service string) *[]metric.ObserveOption {
			return &[]metric.ObserveOption{metric.WithAttributes(attribute.String(labelService, service))}
		}),
	}
	m.keys = NewSeries(MaxMeteredKeys, other, m.newLabels)
	return m, m.makeInstruments()
}

func (m *Metrics) makeInstruments() error {
	var errs []error
	counter := func(name, help string, more ...string) Counter {
		c, err := m.Counter(name, help, append([]string{labelService, labelOperation}, more...)...)
		errs = append(errs, err)
		return c
	}
	histogram := func(name string, buckets []float64, help string, labels ...string) Histogram {
		h, err := m.Histogram(name, help, buckets, labels...)
		errs = append(errs, err)
		return h
	}
	m.submissions = counter("rebound_submissions_total",
		"Submissions that this instance took in or rejected, replays of dead letters and messages of adopted consumers included.", labelResult)
	m.refused = counter("rebound_submissions_refused_total",
		"Submissions that were asked for and refused, because as many of their service as may be wait to be taken in.")
	m.ahead = counter("rebound_submissions_ahead_total",
		"Submissions that this instance took in ahead of their turn, because a service with many stood before them.")
	m.attempts = counter("rebound_attempts_total",
		"Attempts that have ended at this instance, by whether the target succeeded. The attempt that failed before the submission is not counted.", labelResult)
	m.outcomes = counter("rebound_outcomes_total",
		"Operations that have ended at this instance, by outcome. Those that ended in retryFailed have the reason.", labelOutcome, labelReason)
	m.parked = counter("rebound_operations_parked_total",
		"How often operations were parked in NATS until they are due. Delays below half a second are waited for in memory and not counted.")
	m.held = counter("rebound_operations_held_total",
		"How often due operations were moved to a lane because the gate of their key was shut.")
	m.stranded = counter("rebound_stranded_keys_total",
		"How often none of a key's held operations left for seconds although its gate was open, and this instance released them by force. It should be 0.")
	m.dead = counter("rebound_dead_letters_total",
		"Operations that were kept as dead letters by this instance.")
	m.delay = histogram("rebound_retry_delay_seconds", delayBuckets,
		"The delays in seconds that were decided upon after failures, jitter and the wait for an open breaker included.", labelService, labelOperation)
	m.duration = histogram("rebound_attempt_duration_seconds", durationBuckets,
		"How long attempts took in seconds: until the target's reply, or until the worker's report.", labelService, labelOperation)
	m.lateness = histogram("rebound_attempt_lateness_seconds", latenessBuckets,
		"How many seconds after they were due attempts began, of all keys together. Operations that a shut gate held are late by that time.")
	return errors.Join(errs...)
}

// Forget drops the metrics of keys that were not counted since a time, and of unknown
// services.
func (m *Metrics) Forget(since time.Time, known func(service string) bool) {
	m.services.Forget(func(service string, _ *[]metric.ObserveOption) bool { return !known(service) })
	keys := m.keys.Forget(func(_ meteredKey, l *labels) bool { return l.used.Load() < since.UnixNano() })
	for _, k := range keys {
		key := map[string]string{labelService: k.service, labelOperation: k.operation}
		for _, c := range []Counter{m.submissions, m.attempts, m.outcomes, m.parked, m.held, m.dead, m.stranded} {
			c.Forget(key)
		}
		m.delay.Forget(key)
		m.duration.Forget(key)
		m.measured.Forget(func(measured meteredKey, _ *meteredKey) bool { return measured == k })
	}
}

// Accepted counts a submission that was taken in.
func (m *Metrics) Accepted(ctx context.Context, op *events.Operation) {
	m.submissions.Add(ctx, 1, m.of(op).accepted...)
}

// AcceptedAhead counts a submission that was taken in ahead of its turn, in addition to
// [Metrics.Accepted].
func (m *Metrics) AcceptedAhead(ctx context.Context, op *events.Operation) {
	m.ahead.Add(ctx, 1, m.of(op).counted...)
}

// Rejected counts a submission that cannot be taken in.
func (m *Metrics) Rejected(ctx context.Context, service, operation string) {
	m.submissions.Add(ctx, 1, m.use(service, operation).rejected...)
}

// Refused counts a submission request that was refused because too many wait.
func (m *Metrics) Refused(ctx context.Context, op *events.Operation) {
	m.refused.Add(ctx, 1, m.of(op).counted...)
}

// Parked counts an operation that was parked.
func (m *Metrics) Parked(ctx context.Context, op *events.Operation) {
	m.parked.Add(ctx, 1, m.of(op).counted...)
}

// Held counts an operation that was moved to a lane.
func (m *Metrics) Held(ctx context.Context, op *events.Operation) {
	m.held.Add(ctx, 1, m.of(op).counted...)
}

// Stranded counts a key that held operations although its gate was open.
func (m *Metrics) Stranded(service, operation string) {
	m.stranded.Add(context.Background(), 1, m.use(service, operation).counted...)
}

// DeadLettered counts an operation that was kept as a dead letter.
func (m *Metrics) DeadLettered(ctx context.Context, op *events.Operation) {
	m.dead.Add(ctx, 1, m.of(op).counted...)
}

// Began measures how late an attempt begins; use it as [scheduler.Pipeline.Began].
func (m *Metrics) Began(ctx context.Context, _ *events.Operation, late time.Duration) {
	m.lateness.Record(ctx, late.Seconds())
}

// Attempted counts an attempt that has ended; use it as [scheduler.Pipeline.Attempted].
func (m *Metrics) Attempted(ctx context.Context, op *events.Operation, r scheduler.Reply) {
	l := m.of(op)
	result := l.succeeded
	if r.Failed {
		result = l.failed
	}
	m.attempts.Add(ctx, 1, result...)
	m.duration.Record(ctx, r.Duration.Seconds(), l.measured...)
}

// Decided measures the delay decided on after a failure.
func (m *Metrics) Decided(ctx context.Context, op *events.Operation, delay time.Duration) {
	m.delay.Record(ctx, delay.Seconds(), m.of(op).measured...)
}

// Ended counts an outcome.
func (m *Metrics) Ended(ctx context.Context, op *events.Operation, o events.Outcome) {
	l := m.of(op)
	outcome := l.success
	if o.Outcome == events.RetryFailed {
		outcome = l.failure[o.Reason]
	}
	m.outcomes.Add(ctx, 1, outcome...)
}

// of returns the labels of an operation's key for counting something.
func (m *Metrics) of(op *events.Operation) *labels { return m.use(op.Service, op.Operation) }

// use returns the labels of a key for counting something.
func (m *Metrics) use(service, operation string) *labels {
	l := m.key(service, operation)
	l.used.Store(time.Now().UnixNano())
	return l
}

func (m *Metrics) key(service, operation string) *labels {
	return m.keys.Of(meteredKey{service, operation})
}
