// Package gate decides how many due operations of a key may go to their target
// now. [Gate] joins what may shut it: the key's breaker, global backpressure,
// concurrency, the budgets per minute and per hour, which keep a reserve by priority
// ([Uses]), the [Exposure] of attempts to a target that may be dead, the [RetryBudget] that
// successes refill, and the [Governor], which paces the release after an outage.
//
// [Ledger] shares limits among instances through a store, [Pressure] turns global
// backpressure on and off, by the [Votes] of the services among others, [Trickle] paces
// failing keys meanwhile, and [RoundRobin] picks the lane of a key that is next.
//
// Everything is pure: the time is an argument, and nothing here does I/O. Only
// Gate locks; everything else belongs to one goroutine at a time.
package gate
