package handlers

import (
	"time"

	"github.com/rebound-mq/rebound/scheduler"
)

const (
	// firstWindow and lastWindow bound how many operations of a key that this instance
	// lets out there may be in flight beyond those that come by themselves. The window
	// doubles whenever as many operations were let out as it holds.
	firstWindow = 8
	lastWindow  = 1024
	// comingFor is for how long what was let out is waited for at the gate: other
	// instances may get it.
	comingFor = time.Second
	// starvedFor is after what time one operation is let out although what comes by
	// itself leaves no room.
	starvedFor = time.Second
	// newFlow is after what pause the window is small again.
	newFlow = 10 * time.Second
)

// outflow is how many operations of a key this instance lets out. Each instance
// feeds its own gate and goes by what it sees there: what waits, what comes and what
// is in flight. How many are due in the stream says little, because most of those may
// wait in memory for their time.
type outflow struct {
	window, out int       // out counts towards the next doubling
	coming      int       // let out and not come yet, as far as can be told
	at          time.Time // when operations were let out last
	came        uint64    // of the gate, when it was last asked
	usual       int       // in flight without what is let out
	starved     time.Time // since when nothing could be let out; zero is not now
}

// begin prepares for letting operations out at now.
func (f *outflow) begin(now time.Time) {
	f.starved = time.Time{}
	if f.window == 0 || now.Sub(f.at) > newFlow {
		*f = outflow{window: firstWindow, usual: lastWindow}
	}
}

// arrived takes account of what came to the gate: of what was let out, or instead
// of it.
func (f *outflow) arrived(r scheduler.Quota, now time.Time) {
	// A gate that was forgotten meanwhile counts from the start.
	if came := r.Came; came > f.came {
		f.coming = max(f.coming-int(min(came-f.came, lastWindow)), 0)
	}
	f.came = r.Came
	if now.Sub(f.at) > comingFor {
		f.coming = 0
	}
}

// allows returns how many operations may be let out now.
func (f *outflow) allows(r scheduler.Quota, now time.Time) int {
	f.arrived(r, now)
	f.usual = min(f.usual, r.InFlight)
	n := min(r.N, f.window-(r.InFlight-f.usual)) - f.coming
	switch {
	case n > 0:
		f.starved = time.Time{}
		return n
	case f.starved.IsZero():
		f.starved = now
	case now.Sub(f.starved) >= starvedFor:
		f.starved, f.usual = now, r.InFlight
		return 1
	}
	return 0
}

// released takes account of n operations that were let out.
func (f *outflow) released(n int, now time.Time) {
	if n == 0 {
		return
	}
	f.coming, f.at = f.coming+n, now
	if f.out += n; f.out >= f.window {
		f.window, f.out = min(2*f.window, lastWindow), 0
	}
}
