package telemetry

import (
	"context"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// OpenTelemetry never drops a set of labels, so counters and histograms that are labelled
// by key are Prometheus's own, which can.

// Counter counts by labels. It is safe for concurrent use.
type Counter struct{ vector *prometheus.CounterVec }

// Counter makes a counter with labels of these names.
func (r *Registry) Counter(name, help string, labels ...string) (Counter, error) {
	c := Counter{prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)}
	if err := r.registry.Register(c.vector); err != nil {
		return Counter{}, fmt.Errorf("making the metric %s: %w", name, err)
	}
	return c, nil
}

// Add adds n to the count of these labels, given in the order of their names.
func (c Counter) Add(_ context.Context, n int64, labels ...string) {
	c.vector.WithLabelValues(labels...).Add(float64(n))
}

// Forget drops the counts that have all these labels.
func (c Counter) Forget(labels map[string]string) { c.vector.DeletePartialMatch(labels) }

// Histogram measures by labels. It is safe for concurrent use.
type Histogram struct{ vector *prometheus.HistogramVec }

// Histogram makes a histogram with these bounds and labels of these names.
func (r *Registry) Histogram(name, help string, bounds []float64, labels ...string) (Histogram, error) {
	h := Histogram{prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: bounds}, labels)}
	if err := r.registry.Register(h.vector); err != nil {
		return Histogram{}, fmt.Errorf("making the metric %s: %w", name, err)
	}
	return h, nil
}

// Record measures v with these labels, given in the order of their names.
func (h Histogram) Record(_ context.Context, v float64, labels ...string) {
	h.vector.WithLabelValues(labels...).Observe(v)
}

// Forget drops what was measured with all these labels.
func (h Histogram) Forget(labels map[string]string) { h.vector.DeletePartialMatch(labels) }
