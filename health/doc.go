// Package health keeps what is known of the services' health. [Registry] is fed
// with the result of every attempt that Rebound makes and with the figures that
// services report of themselves, and answers with the [Figures] that a decision
// goes by, or with the [Metrics] that people read. [Sampler] measures the host
// that Rebound itself runs on.
//
// Only redeliveries are measured. A submission tells of one operation that
// failed, and nothing of those that succeeded meanwhile; counted as attempts,
// submissions would make every service look dead.
//
// All but the sampler is pure: the time is an argument, and nothing here does
// I/O.
package health
