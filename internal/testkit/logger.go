package testkit

import (
	"bytes"
	"log/slog"
	"sync"
	"testing"
)

// Logger returns a logger at debug level that writes to the test's log. It may be used from any
// goroutine; after the test has ended it discards messages.
func Logger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(logWriter(t), &slog.HandlerOptions{
		Level: slog.LevelDebug,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey {
				a.Value = slog.StringValue(a.Value.Time().Format("15:04:05.000"))
			}
			return a
		},
	}))
}

// logWriter returns a writer of lines to the log of the test.
func logWriter(t testing.TB) *testWriter {
	w := &testWriter{t: t}
	t.Cleanup(w.end)
	return w
}

// testWriter writes each line with t.Log, which must not be called after the test has ended.
type testWriter struct {
	mu sync.Mutex // guards t, and keeps the test from ending during a t.Log
	t  testing.TB
}

func (w *testWriter) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.t != nil {
		w.t.Log(string(bytes.TrimRight(line, "\n")))
	}
	return len(line), nil
}

func (w *testWriter) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.t = nil
}
