package flags

import (
	"fmt"
	"time"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/config"
)

// When is a moment on the command line: how long ago ("2h", "7d"), or an
// RFC 3339 time.
type When struct {
	At   time.Time
	text string
}

// Set implements [pflag.Value].
func (w *When) Set(s string) error {
	at, err := parseWhen(s, time.Now())
	if err != nil {
		return err
	}
	w.At, w.text = at, s
	return nil
}

// String implements [pflag.Value].
func (w *When) String() string { return w.text }

// Type implements [pflag.Value].
func (w *When) Type() string { return "time" }

func parseWhen(s string, now time.Time) (time.Time, error) {
	if at, err := events.ParseTime(s); err == nil {
		return at, nil
	}
	ago, err := config.ParseDuration(s)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is neither how long ago, such as 2h or 7d, nor an RFC 3339 time", s)
	}
	return now.Add(-ago), nil
}

// Duration is a duration, with days.
type Duration time.Duration

// Set implements [pflag.Value].
func (d *Duration) Set(s string) error {
	v, err := config.ParseDuration(s)
	if err != nil {
		return err
	}
	*d = Duration(v)
	return nil
}

// String implements [pflag.Value].
func (d *Duration) String() string {
	if *d == 0 {
		return ""
	}
	return time.Duration(*d).String()
}

// Type implements [pflag.Value].
func (d *Duration) Type() string { return "duration" }
