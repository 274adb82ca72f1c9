package client

import (
	"sync"
	"time"

	"github.com/rebound-mq/rebound/scheduler/gate"
)

// budget bounds the retries of a key in this process by retryBudgetPerMinute and
// retryBudgetPerHour. It is safe for concurrent use.
type budget struct {
	mu                 sync.Mutex // guards the fields below
	perMinute, perHour int        // 0 is unlimited
	minute, hour       gate.Window
}

func newBudget() budget {
	return budget{minute: gate.NewWindow(time.Minute), hour: gate.NewWindow(time.Hour)}
}

// limit sets the number of retries allowed; 0 is unlimited. Retries already taken still count.
func (b *budget) limit(perMinute, perHour int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.perMinute, b.perHour = perMinute, perHour
}

// take takes one retry at now, unless a limit is reached (see [budget.check]).
func (b *budget) take(now time.Time) (limit string, next time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	limit, next = b.spent(now)
	if limit == "" {
		b.minute.Take(1, now)
		b.hour.Take(1, now)
	}
	return limit, next
}

// check returns the limit reached at now, named by its policy key, and when the next retry will
// be allowed. The limit is empty if none is reached.
func (b *budget) check(now time.Time) (limit string, next time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.spent(now)
}

// spent returns the limit that stays reached for the longest.
func (b *budget) spent(now time.Time) (limit string, next time.Time) {
	for _, w := range []struct {
		key    string
		most   int
		window *gate.Window
	}{{"retryBudgetPerMinute", b.perMinute, &b.minute}, {"retryBudgetPerHour", b.perHour, &b.hour}} {
		if w.most <= 0 {
			continue
		}
		if n, at := w.window.Available(w.most, now); n == 0 && at.After(next) {
			limit, next = w.key, at
		}
	}
	return limit, next
}
