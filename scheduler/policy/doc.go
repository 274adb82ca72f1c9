// Package policy says how failed operations are retried. Most important is [Policy],
// how operations of a key are retried: [Policy.Decide] turns a failure into a
// [Decision], a delay or an end with its reasons. A [Set], read from a policy file by
// [Parse], lays the built-in policies and those of services, operation types, accounts
// and campaigns together, and resolves and explains the policy of an operation.
//
// Everything here is pure: it reads no clock, draws from a random source that is passed
// in, and does no I/O but to read a policy file. So the service, the client in another
// process, the simulator and the tests run the same code.
package policy
