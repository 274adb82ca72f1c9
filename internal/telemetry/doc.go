// Package telemetry exports the metrics of an instance. [Metrics] count and measure what
// becomes of operations, and [Observe] adds gauges of the instance's state. Both are in a
// [Registry], which serves them to Prometheus; [Series] bounds how many sets of labels
// there may be.
package telemetry
