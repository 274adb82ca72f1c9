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
	// starvedFor is how long until the window starts anew, with one operation at least,
	// although others that arrive by themselves fill the gate or no attempt ends.
	starvedFor = time.Second
	// hardlyAny is the share of the window that counts as nothing while no attempt ends: what
	// other instances get and hold again would otherwise leave less and less of it.
	hardlyAny = 1.0 / 4
	// newFlow is the pause after which the window starts anew.
	newFlow = 10 * time.Second
)

// outflow bounds how many operations of a key this instance lets out. Each instance feeds
// its own gate and judges by what waits, arrives and is in flight there. The number of due
// operations in the stream says little, because most may wait in memory for their time.
type outflow struct {
	window, out int       // out counts towards the next doubling
	coming      []batch   // let out and probably still on the way, the oldest first
	at          time.Time // when operations were let out last
	arrivals    uint64    // at the gate when it was last asked
	usual       int       // in flight, apart from those let out
	gone        int       // those that had left the gate when it was last asked
	starved     time.Time // since when hardly anything could be let out; zero when it can
}

// batch is how many operations were let out at a time.
type batch struct {
	n  int
	at time.Time
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
	arrived := 0
	// A gate that was forgotten meanwhile counts from the start.
	if r.Arrivals > f.arrivals {
		arrived = int(min(r.Arrivals-f.arrivals, lastWindow))
	}
	f.arrivals = r.Arrivals
	for len(f.coming) > 0 {
		oldest := &f.coming[0]
		those := min(arrived, oldest.n)
		oldest.n, arrived = oldest.n-those, arrived-those
		if oldest.n > 0 && now.Sub(oldest.at) <= comingFor {
			break
		}
		f.coming = f.coming[1:]
	}
}

// onTheWay returns how many operations are coming.
func (f *outflow) onTheWay() int {
	n := 0
	for _, b := range f.coming {
		n += b.n
	}
	return n
}

// allows returns how many operations may be let out now.
func (f *outflow) allows(r scheduler.Quota, now time.Time) int {
	f.arrived(r, now)
	f.usual = min(f.usual, r.InFlight)
	coming := f.onTheWay()
	room := f.window - (r.InFlight - f.usual) - coming
	n := min(r.N-coming, room)
	gone := int(r.Arrivals) - r.InFlight
	ended := gone > f.gone
	f.gone = gone
	switch {
	case n > 0 && (ended || float64(room) >= hardlyAny*float64(f.window)):
		f.starved = time.Time{}
	case f.starved.IsZero():
		f.starved = now
	case now.Sub(f.starved) >= starvedFor:
		f.starved, f.usual = now, r.InFlight
		return max(n, 1)
	}
	return max(n, 0)
}

// released counts n operations that were let out.
func (f *outflow) released(n int, now time.Time) {
	if n == 0 {
		return
	}
	f.coming, f.at = append(f.coming, batch{n, now}), now
	if f.out += n; f.out >= f.window {
		f.window, f.out = min(2*f.window, lastWindow), 0
	}
}
