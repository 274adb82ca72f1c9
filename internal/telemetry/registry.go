package telemetry

import (
	"fmt"
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/otlptranslator"
	"go.opentelemetry.io/otel/attribute"
	exporter "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/exemplar"
	"go.opentelemetry.io/otel/sdk/resource"
)

// maxScrapes is how many scrapes are answered at once; more are refused. Anyone who
// reaches the port may scrape, and each answer costs time and memory.
const maxScrapes = 4

// Registry holds the instruments of one instance and those of its process. It belongs
// to no global registry or provider, so that a process may run several instances.
// There is nothing to stop. It is safe for concurrent use.
type Registry struct {
	registry *prometheus.Registry
	provider *sdk.MeterProvider
}

// NewRegistry returns the registry of an instance that runs that version of the program.
// The error says which collector cannot be set up.
func NewRegistry(instance, version string) (*Registry, error) {
	registry := prometheus.NewRegistry()
	for _, c := range []prometheus.Collector{
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("collecting metrics of the process: %w", err)
		}
	}
	reader, err := exporter.New(
		exporter.WithRegisterer(registry), exporter.WithoutScopeInfo(),
		exporter.WithTranslationStrategy(otlptranslator.UnderscoreEscapingWithSuffixes),
	)
	if err != nil {
		return nil, fmt.Errorf("exporting metrics to Prometheus: %w", err)
	}
	return &Registry{registry: registry, provider: sdk.NewMeterProvider(
		sdk.WithReader(reader),
		sdk.WithResource(resource.NewSchemaless(
			attribute.String("service.name", "rebound"), attribute.String("service.version", version),
			attribute.String("service.instance.id", instance),
		)),
		// Series bounds the labels instead, and names those beyond the bound.
		sdk.WithCardinalityLimit(0),
		sdk.WithExemplarFilter(exemplar.AlwaysOffFilter),
	)}, nil
}

// Meter makes instruments.
func (r *Registry) Meter() metric.Meter { return r.provider.Meter("github.com/rebound-mq/rebound") }

// Handler serves all metrics in Prometheus's format. If some cannot be collected it logs
// that and answers with an error.
func (r *Registry) Handler(log *slog.Logger) http.Handler {
	return promhttp.HandlerFor(r.registry, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn), MaxRequestsInFlight: maxScrapes,
	})
}
