// Package scheduler decides when a failed operation is tried again, and carries
// it there. [Policy] says how operations of a key are retried, and
// [Policy.Decide] turns a failure into a [Decision]; a [Set], read from a policy
// file by [Parse], resolves the policy of an operation and explains it. Deciding
// is pure: it reads no clock, draws from a random source that is passed in, and
// does no I/O, so that the service, the client in another process, the simulator
// and the tests run the same code. The pipeline lives here too: it takes
// operations from one state to the next by what was decided, through ports that
// others implement.
package scheduler
