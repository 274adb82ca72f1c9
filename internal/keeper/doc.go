// Package keeper keeps what an instance stands on in order while it runs. [Keeper] makes
// streams anew that vanished, [Sweeper] fires the schedules that the server forgot, and
// [Forgetter] has the keys forgotten that are not used any more.
package keeper
