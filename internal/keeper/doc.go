// Package keeper keeps what an instance needs in order while it runs. [Keeper] makes
// vanished streams anew, [Sweeper] fires schedules that the server forgot, and [Forgetter]
// drops unused keys.
package keeper
