package gate

import (
	"encoding/json"
	"fmt"
	"time"
)

// Window counts what was taken in a sliding window of time, for a budget per minute
// or per hour. It is a value: a copy is another window.
//
// It counts in buckets of a sixtieth of the window and adds up 62 of them, so no
// window of that length ever holds more than the limit, not even when what is taken
// is used up to a sixtieth of the window later. The price is that what was taken
// comes back up to two sixtieths late: under endless load a limit of 200 a minute
// is 200 in 62 seconds.
//
// When the clock is set back, what was taken counts as taken that much earlier.
type Window struct {
	width  int64           // of a bucket, nanoseconds
	latest int64           // the bucket of counts[0], in widths since 1970
	begins int64           // when that bucket begins, Unix nanoseconds
	total  int             // of counts
	counts [buckets]uint32 // how much was taken, the latest bucket first
}

const (
	perWindow = 60
	buckets   = perWindow + 2
)

// NewWindow returns an empty window of the given length.
func NewWindow(length time.Duration) Window { return Window{width: int64(length) / perWindow} }

// Available returns how much more may be taken at now under the limit and, if that is
// 0, when there will be more.
func (w *Window) Available(limit int, now time.Time) (n int, next time.Time) {
	w.move(now)
	if n = limit - w.total; n > 0 {
		return n, time.Time{}
	}
	left := w.total
	for ago := buckets - 1; ago >= 0; ago-- {
		if left -= int(w.counts[ago]); left < limit {
			return 0, time.Unix(0, (w.latest+int64(buckets-ago))*w.width)
		}
	}
	return 0, time.Time{} // a limit of 0 never allows any
}

// Take counts n as taken at now.
func (w *Window) Take(n int, now time.Time) {
	w.move(now)
	w.counts[0] += uint32(max(n, 0))
	w.total += max(n, 0)
}

// GiveBack uncounts up to n of what was taken at an earlier time and not used.
// What has left the window since is not counted anyway.
func (w *Window) GiveBack(n int, taken, now time.Time) {
	w.move(now)
	ago := w.latest - taken.UnixNano()/w.width
	if ago < 0 || ago >= buckets || n <= 0 {
		return
	}
	n = min(n, int(w.counts[ago]))
	w.counts[ago] -= uint32(n)
	w.total -= n
}

// empty reports whether nothing that was taken counts at now.
func (w *Window) empty(now time.Time) bool {
	w.move(now)
	return w.total == 0
}

// empties returns when nothing of what was taken counts any more.
func (w *Window) empties(now time.Time) time.Time {
	w.move(now)
	if w.total == 0 {
		return now
	}
	newest := 0
	for w.counts[newest] == 0 {
		newest++
	}
	return time.Unix(0, (w.latest+int64(buckets-newest))*w.width)
}

// Merge adds the counts of o, of the same length, to w. Use it for windows that
// count different things, such as those of two instances.
func (w *Window) Merge(o Window) {
	ahead := time.Unix(0, max(w.latest, o.latest)*w.width)
	w.move(ahead)
	o.move(ahead)
	for i, n := range o.counts {
		w.counts[i] += n
	}
	w.total += o.total
}

// raise makes each bucket of w count at least what o counts there.
func (w *Window) raise(o Window) {
	ahead := time.Unix(0, max(w.latest, o.latest)*w.width)
	w.move(ahead)
	o.move(ahead)
	w.total = 0
	for i, n := range o.counts {
		w.counts[i] = max(w.counts[i], n)
		w.total += int(w.counts[i])
	}
}

// move advances the window to now.
func (w *Window) move(now time.Time) {
	t := now.UnixNano()
	if into := t - w.begins; into >= 0 && into < w.width {
		return
	}
	bucket := t / w.width
	by := bucket - w.latest
	w.latest, w.begins = bucket, bucket*w.width
	switch {
	case by <= 0 || w.total == 0:
	case by >= buckets:
		w.counts, w.total = [buckets]uint32{}, 0
	default:
		for _, n := range w.counts[buckets-by:] {
			w.total -= int(n)
		}
		copy(w.counts[by:], w.counts[:buckets-by])
		clear(w.counts[:by])
	}
}

// storedWindow is a window as a store keeps it: the counts up to the last non-zero
// one.
type storedWindow struct {
	Width  int64    `json:"width"`
	Latest int64    `json:"latest"`
	Counts []uint32 `json:"counts,omitempty"`
}

// MarshalJSON implements [json.Marshaler].
func (w Window) MarshalJSON() ([]byte, error) {
	n := buckets
	for n > 0 && w.counts[n-1] == 0 {
		n--
	}
	return json.Marshal(storedWindow{w.width, w.latest, w.counts[:n]})
}

// UnmarshalJSON implements [json.Unmarshaler].
func (w *Window) UnmarshalJSON(b []byte) error {
	var s storedWindow
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("reading a budget's window: %w", err)
	}
	if s.Width <= 0 || len(s.Counts) > buckets {
		return fmt.Errorf("reading a budget's window: width %d with %d counts, want a width above 0 and at most %d counts", s.Width, len(s.Counts), buckets)
	}
	*w = Window{width: s.Width, latest: s.Latest, begins: s.Latest * s.Width}
	copy(w.counts[:], s.Counts)
	for _, n := range s.Counts {
		w.total += int(n)
	}
	return nil
}
