package client

import (
	"sync"
	"time"
)

// budget bounds the retries of a key in this process by retryBudgetPerMinute and
// retryBudgetPerHour. It is safe for concurrent use.
type budget struct {
	mu           sync.Mutex // guards what follows
	minute, hour window
}

// limit sets how many retries there may be; 0 is without limit. What was taken
// stays taken.
func (b *budget) limit(perMinute, perHour int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.minute.most, b.minute.width = perMinute, time.Minute/windowParts
	b.hour.most, b.hour.width = perHour, time.Hour/windowParts
}

// take takes one retry at now, unless [budget.check] says that there is none.
func (b *budget) take(now time.Time) (limit string, next time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	limit, next = b.spent(now)
	if limit == "" {
		b.minute.add(now)
		b.hour.add(now)
	}
	return limit, next
}

// check says which limit is reached at now, by its policy key, and when the next
// retry will be let through. An empty limit is none.
func (b *budget) check(now time.Time) (limit string, next time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.spent(now)
}

func (b *budget) spent(now time.Time) (limit string, next time.Time) {
	minute, hour := b.minute.full(now), b.hour.full(now)
	switch {
	case !minute.IsZero() && !minute.Before(hour):
		return "retryBudgetPerMinute", minute
	case !hour.IsZero():
		return "retryBudgetPerHour", hour
	}
	return "", time.Time{}
}

// windowParts is into how many parts a window is divided.
const windowParts = 60

// window counts what happened in the last while, part by part. The part that is
// over by a fraction only still counts in full, so that there are never more than
// most in any while of that length, and it may take a part longer than that until
// there is room again.
type window struct {
	most   int
	width  time.Duration // of one part
	counts [windowParts + 1]int
	latest int64 // the part of the latest count
}

// part returns the number of the part in which now is.
func (w *window) part(now time.Time) int64 { return now.UnixNano() / int64(w.width) }

func (w *window) at(part int64) *int { return &w.counts[part%int64(len(w.counts))] }

// full returns when there is room again, the zero time when there is now.
func (w *window) full(now time.Time) time.Time {
	if w.most <= 0 {
		return time.Time{}
	}
	w.roll(w.part(now))
	taken := 0
	for _, n := range w.counts {
		taken += n
	}
	for part := w.latest - windowParts; taken >= w.most; part++ {
		taken -= *w.at(part)
		if taken < w.most {
			return time.Unix(0, (part+windowParts+1)*int64(w.width))
		}
	}
	return time.Time{}
}

func (w *window) add(now time.Time) {
	if w.most <= 0 {
		return
	}
	w.roll(w.part(now))
	*w.at(w.latest)++
}

// roll forgets what is over. When the clock goes back, the latest part goes on.
func (w *window) roll(part int64) {
	if part-w.latest > windowParts {
		clear(w.counts[:])
		w.latest = part
	}
	for w.latest < part {
		w.latest++
		*w.at(w.latest) = 0
	}
}
