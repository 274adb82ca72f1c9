package flags

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/time/rate"
)

// Rate is a bound on how often something is done, such as 500/s or 30/m.
// The zero value is no bound.
type Rate struct {
	limit rate.Limit
	text  string
}

// Set implements [pflag.Value].
func (r *Rate) Set(s string) error {
	count, unit, ok := strings.Cut(s, "/")
	per, known := map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour}[unit]
	n, err := strconv.ParseFloat(count, 64)
	if !ok || !known || err != nil || !(n > 0 && n <= 1e9) {
		return fmt.Errorf("%q is no rate; write N/s, N/m or N/h, such as 500/s", s)
	}
	r.limit, r.text = rate.Limit(n/per.Seconds()), s
	return nil
}

// String implements [pflag.Value].
func (r *Rate) String() string { return r.text }

// Type implements [pflag.Value].
func (r *Rate) Type() string { return "N/s" }

// Limiter returns a limiter that spreads the events evenly.
func (r *Rate) Limiter() *rate.Limiter {
	if r.limit == 0 {
		return rate.NewLimiter(rate.Inf, 1)
	}
	// Events due within a hundredth of a second may go together, because sleeps are
	// not much shorter.
	return rate.NewLimiter(r.limit, max(1, int(r.limit/100)))
}
