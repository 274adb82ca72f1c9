// Package policy says how failed operations are retried. [Policy] holds this for the
// operations of a key: [Policy.Decide] turns a failure into a [Decision], a delay or an
// end with its reasons. A [Set], which [Parse] reads from a policy file, layers the
// built-in policies and those of services, operation types, accounts and campaigns, and
// resolves and explains the policy of an operation.
//
// Everything here is pure: it reads no clock, draws from a random source that is passed
// in, and does no I/O except to read a policy file. So the service, the client in
// another process, the simulator and the tests run the same code.
package policy
