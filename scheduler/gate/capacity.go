package gate

import (
	"math"
	"time"
)

// Throttle lowers how many due operations an instance may have in hand while attempts, a store
// or its memory are at a limit, and raises it again afterwards (AIMD). It never stops anything:
// new operations go at the pace at which others end, or at half of it. It is a value;
// [Throttle.Step] gives the next one, and the zero value limits nothing.
type Throttle struct {
	limit int
	cause ThrottleCause
	ended uint64
	at    time.Time // when the limit was last reconsidered
}

// ThrottleCause is what lowers the limit.
type ThrottleCause string

// The causes; of several that apply, the first in this order is named.
const (
	// ThrottleMemory: the memory of the instance's cgroup is almost used up.
	ThrottleMemory ThrottleCause = "memory"
	// ThrottleStore: NATS or Redis answers slowly.
	ThrottleStore ThrottleCause = "store_slow"
	// ThrottleActive: too many retries are in flight over all instances.
	ThrottleActive ThrottleCause = "active_retries"
)

// Usage are the measures that decide on a [Throttle].
type Usage struct {
	// Memory is that of [Saturation], and Active and StoreDelay are those of [Measures].
	Memory     float64
	StoreDelay time.Duration
	Active     int
	// InHand is how many due operations the instance has in hand, Most how many it may have
	// without a throttle, and Ended how many have left its hand since it started.
	InHand, Most int
	Ended        uint64
}

const (
	// throttleEvery is how often the limit changes.
	throttleEvery = time.Second
	// throttleCut is what is left of the limit after a cut, and throttleStep the share of
	// the most by which it grows.
	throttleCut  = 0.7
	throttleStep = 1.0 / 16
	// throttleLeast and throttleShare bound what is left: so many, or so much of the most.
	throttleLeast = 64
	throttleShare = 1.0 / 16
)

// Limit returns how many due operations the instance may have in hand, and why. limited is
// false while there is no limit.
func (t Throttle) Limit() (limit int, cause ThrottleCause, limited bool) {
	return t.limit, t.cause, t.cause != ""
}

// Step returns the throttle after the measures at now.
func (t Throttle) Step(u Usage, l Limits, now time.Time) Throttle {
	if passed := now.Sub(t.at); passed >= 0 && passed < throttleEvery*9/10 {
		return t // a tick that comes early counts for the next
	}
	l = l.OrDefaults()
	ended := int(min(u.Ended-t.ended, 1<<30))
	after := Throttle{limit: u.Most, ended: u.Ended, at: now}
	if _, _, limited := t.Limit(); limited {
		after.limit, after.cause = min(t.limit, u.Most), t.cause
	}
	cause, level := u.tightest(l)
	switch {
	case level >= 1:
		after.limit, after.cause = cut(cause, min(after.limit, u.InHand), ended, u.Most, l), cause
	case after.cause != "" && level <= pressureEnds:
		if after.limit += max(int(throttleStep*float64(u.Most)), 1); after.limit >= u.Most {
			after.limit, after.cause = 0, ""
		}
	}
	if after.cause == "" {
		after.limit = 0
	}
	return after
}

// tightest returns the measure that is the furthest beyond its limit, as a share of it.
func (u *Usage) tightest(l Limits) (cause ThrottleCause, level float64) {
	for _, m := range []struct {
		cause ThrottleCause
		level float64
	}{
		{ThrottleMemory, share(u.Memory, l.Memory)},
		{ThrottleStore, share(float64(u.StoreDelay), float64(l.StoreDelay))},
		{ThrottleActive, share(float64(u.Active), float64(l.Active))},
	} {
		if m.level >= 1 {
			return m.cause, m.level
		}
		if m.level > level {
			cause, level = m.cause, m.level
		}
	}
	return cause, level
}

// cut lowers what the instance has in hand. Of the operations that end, at least every second
// one makes place for another.
func cut(cause ThrottleCause, inHand, ended, most int, l Limits) int {
	least := max(throttleLeast, int(throttleShare*float64(most)))
	if cause == ThrottleActive {
		return max(inHand, min(least, max(l.Active/16, 1), most)) // one for one
	}
	return max(inHand-min(int((1-throttleCut)*float64(inHand)), ended/2), min(least, most))
}

// Saturation is how far an instance uses up what is its own, apart from the host.
type Saturation struct {
	// SchedulerDelay is how long 99 of 100 goroutines that were ready to run waited at most,
	// lately.
	SchedulerDelay time.Duration
	// CPUPressure is the share of the time, 0 to 1, in which something of the instance's
	// cgroup waited for a CPU, lately; 0 without a cgroup of its own.
	CPUPressure float64
	// Memory is the share of the memory limit of its cgroup that is in use, 0 to 1; 0 without
	// a limit.
	Memory float64
}

// Overload is how far an instance is from keeping up with its work for want of CPU. It is a
// value; [Overload.Step] gives the next one. Others take over from an instance that is
// overloaded more than they are, so nothing is held for it.
type Overload struct {
	level float64
	at    time.Time
}

// overloadHalfLife is how long it takes until half of the level comes from newer measures. A
// collection of garbage must not show, and a starved instance must within seconds.
const overloadHalfLife = 2 * time.Second

// mostOverload bounds the level: a measure that is off the scale must not count for minutes.
const mostOverload = 8

// Level is 0 when the instance waits for nothing, and 1 at a limit.
func (o Overload) Level() float64 { return o.level }

// Step returns the overload after the measures at now.
func (o Overload) Step(s Saturation, l Limits, now time.Time) Overload {
	l = l.OrDefaults()
	level := min(max(share(float64(s.SchedulerDelay), float64(l.SchedulerDelay)), share(s.CPUPressure, l.CPUPressure)), mostOverload)
	old := math.Exp2(-max(now.Sub(o.at).Seconds(), 0) / overloadHalfLife.Seconds())
	return Overload{level: old*o.level + (1-old)*level, at: now}
}

// share returns value as a share of a limit that may be off.
func share(value, limit float64) float64 {
	if !(limit > 0 && value > 0) {
		return 0
	}
	return value / limit
}

// shareFactor is α of the dynamic threshold. With 4 a key that is alone may have four
// fifths of an instance's capacity in flight, and one of two equally greedy keys four
// ninths.
const shareFactor = 4

// Threshold returns how many attempts of one key may be in flight at an instance that may
// have capacity in flight and has inFlight, from 1. It is the dynamic threshold by which
// switches share a buffer (Choudhury and Hahne, "Dynamic Queue Length Thresholds for
// Shared-Memory Packet Switches", 1998): a multiple of what is free. A key takes most of
// an idle instance, and yet some is always left for one that comes later.
func Threshold(capacity, inFlight int) int {
	return max(shareFactor*(capacity-inFlight), 1)
}

// nearThreshold is how close to its threshold a key is limited at all.
const nearThreshold = 256
