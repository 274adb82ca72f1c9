package cli

import (
	"fmt"
	"time"

	"github.com/rebound-mq/rebound/internal/config"
)

// whenFlag is a moment on the command line: how long ago ("2h", "7d"), or an
// RFC 3339 time.
type whenFlag struct {
	at   time.Time
	text string
}

// Set implements [pflag.Value].
func (w *whenFlag) Set(s string) error {
	at, err := parseWhen(s, time.Now())
	if err != nil {
		return err
	}
	w.at, w.text = at, s
	return nil
}

// String implements [pflag.Value].
func (w *whenFlag) String() string { return w.text }

// Type implements [pflag.Value].
func (w *whenFlag) Type() string { return "time" }

func parseWhen(s string, now time.Time) (time.Time, error) {
	if at, err := time.Parse(time.RFC3339, s); err == nil {
		return at, nil
	}
	ago, err := config.ParseDuration(s)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is neither how long ago, such as 2h or 7d, nor an RFC 3339 time", s)
	}
	return now.Add(-ago), nil
}
