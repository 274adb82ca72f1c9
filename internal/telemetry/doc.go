// Package telemetry shows what an instance measures of itself. [Metrics] makes
// the instruments and serves what they hold to Prometheus; [Series] bounds how
// many sets of labels there may be.
package telemetry
