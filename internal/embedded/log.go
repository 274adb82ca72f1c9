package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	natsd "github.com/nats-io/nats-server/v2/server"
)

// serverLog passes the server's messages to slog. The server's notices (its banner, each
// recovered stream) matter only in an investigation, so they are debug messages here.
type serverLog struct {
	logger *slog.Logger
	// broken is set when a store has failed to write, as on a full disk. From then on that store
	// refuses everything, without an answer.
	broken atomic.Bool

	mu  sync.Mutex // guards err
	err error
}

var _ natsd.Logger = (*serverLog)(nil)

func newServerLog(logger *slog.Logger) *serverLog {
	return &serverLog{logger: logger.With("from", "nats-server")}
}

// levelServerDebug is the level of the server's own, numerous debug messages.
const levelServerDebug = slog.LevelDebug - 4

// fatal returns the message with which the server gave up, or nil.
func (l *serverLog) fatal() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

func (l *serverLog) log(level slog.Level, format string, args []any) {
	ctx := context.Background()
	if !l.logger.Enabled(ctx, level) {
		return
	}
	l.logger.Log(ctx, level, strings.TrimSpace(fmt.Sprintf(format, args...)))
}

// criticalWrite is common to the server's messages that a store refuses from now on.
const criticalWrite = "ritical write error"

// Errorf also records that a store is broken, which the server reports in no other way.
func (l *serverLog) Errorf(format string, v ...any) {
	if strings.Contains(format, criticalWrite) {
		l.broken.Store(true)
	}
	l.log(slog.LevelError, format, v)
}

func (l *serverLog) Noticef(format string, v ...any) { l.log(slog.LevelDebug, format, v) }
func (l *serverLog) Debugf(format string, v ...any)  { l.log(levelServerDebug, format, v) }
func (l *serverLog) Tracef(format string, v ...any)  { l.log(levelServerDebug, format, v) }

// Warnf demotes the warning about passwords in nats-server's own configuration file, which does
// not exist here.
func (l *serverLog) Warnf(format string, v ...any) {
	level := slog.LevelWarn
	if strings.HasPrefix(format, "Plaintext passwords detected") {
		level = slog.LevelDebug
	}
	l.log(level, format, v)
}

// Fatalf keeps the first fatal message for [Start]; it does not end the process.
func (l *serverLog) Fatalf(format string, v ...any) {
	err := fmt.Errorf("%s", fmt.Sprintf(format, v...))
	if strings.Contains(err.Error(), syscall.EADDRINUSE.Error()) {
		err = errors.Join(err, syscall.EADDRINUSE)
	}
	l.mu.Lock()
	first := l.err == nil
	if first {
		l.err = err
	}
	l.mu.Unlock()
	l.log(slog.LevelDebug, format, v)
}
