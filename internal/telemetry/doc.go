// Package telemetry shows what an instance measures of itself. [Metrics] count and
// measure what becomes of operations, and [Observe] has them show how the instance
// stands. Both are in a [Registry], which serves what it holds to Prometheus; [Series]
// bounds how many sets of labels there may be.
package telemetry
