package cli

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/cli/command"
)

// FuzzPrintRow prints any message as an outcome: one line without control characters.
func FuzzPrintRow(f *testing.F) {
	whole, err := json.Marshal((&events.Operation{ID: "1", Service: "a", Operation: "b"}).Ended(events.RetryFailed, time.Unix(1, 0)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add("retry.outcome.retryFailed.a.b", whole)
	f.Add("retry.outcome.retrySuccess.a.b", []byte(`{"elapsedMs":1e308,"service":"\u001b[2J","id":"a\nb"}`))
	f.Add("retry.event.retryScheduled.a.b", []byte(`{"delayMs":-1e308,"error":{"code":"\u0007","message":"\u202e"},"strategy":"x"}`))
	f.Add("x", []byte("null"))
	f.Add("", []byte("{"))
	f.Fuzz(func(t *testing.T, subject string, data []byte) {
		var out, said bytes.Buffer
		a := &command.App{Stdout: &out, Stderr: &said}
		if err := printRow(a, storedEvent{at: time.Unix(1, 0), subject: subject, data: data}); err != nil {
			t.Fatal(err)
		}
		line := strings.TrimSuffix(out.String(), "\n")
		if bad := strings.IndexFunc(line, func(r rune) bool { return unicode.IsControl(r) }); bad >= 0 {
			t.Fatalf("%q on %q is shown as %q", data, subject, line)
		}
	})
}
