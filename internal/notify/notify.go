// Package notify wakes a goroutine without waiting for it. Most important is [Signal].
package notify

// Signal tells one goroutine that something changed. Changes that come before it looks
// count as one, so whoever receives must look at everything. It is safe for concurrent
// use; receive from it like from any channel.
type Signal chan struct{}

// NewSignal returns a signal that is not set.
func NewSignal() Signal { return make(Signal, 1) }

// Set wakes the receiver, now or when it next looks. It never blocks. A nil signal has no
// receiver.
func (s Signal) Set() {
	select {
	case s <- struct{}{}:
	default:
	}
}
