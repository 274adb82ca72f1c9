package lanes

import (
	"time"

	"github.com/rebound-mq/rebound/scheduler"
)

const (
	// firstWindow and lastWindow bound the window: how many operations of a key may be in
	// flight because this instance let them out. It doubles whenever that many were let
	// out.
	firstWindow = 8
	lastWindow  = 1024
	// comingFor is how long an operation that was let out is expected at the gate: another
	// instance may get it.
	comingFor = time.Second
	// starvedFor is how long until one operation is let out although others that arrive by
	// themselves fill the gate.
	starvedFor = time.Second
	// newFlow is the pause after which the window starts anew.
	newFlow = 10 * time.Second
)

// outflow bounds how many operations of a key this instance lets out. Each instance feeds
// its own gate and judges by what waits, arrives and is in flight there. The number of due
// operations in the stream says little, because most may wait in memory for their time.
type outflow struct {
	window, out int       // out counts towards the next doubling
	coming      int       // let out and probably still on the way
	at          time.Time // when operations were let out last
	arrivals    uint64    // at the gate when it was last asked
	usual       int       // in flight, apart from those let out
	starved     time.Time // since when nothing could be let out; zero when it can
}

// begin starts to let operations out at now, with a small window after a pause.
func (f *outflow) begin(now time.Time) {
	f.starved = time.Time{}
	if f.window == 0 || now.Sub(f.at) > newFlow {
		*f = outflow{window: firstWindow, usual: lastWindow}
	}
}

// arrived counts operations that arrived at the gate as those that were let out, although
// they may be others.
func (f *outflow) arrived(r scheduler.Quota, now time.Time) {
	// A gate that was forgotten meanwhile counts from the start.
	if arrivals := r.Arrivals; arrivals > f.arrivals {
		f.coming = max(f.coming-int(min(arrivals-f.arrivals, lastWindow)), 0)
	}
	f.arrivals = r.Arrivals
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

// released counts n operations that were let out.
func (f *outflow) released(n int, now time.Time) {
	if n == 0 {
		return
	}
	f.coming, f.at = f.coming+n, now
	if f.out += n; f.out >= f.window {
		f.window, f.out = min(2*f.window, lastWindow), 0
	}
}
