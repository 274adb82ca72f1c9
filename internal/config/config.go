package config

import (
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/rebound-mq/rebound/scheduler/gate"
)

// Config holds the values in force. It is not changed after [Load] and so may
// be read from any goroutine. Printing it never shows a secret.
type Config struct {
	// File is the configuration file that was read, or empty.
	File string
	// Warnings are sentences about input that has no effect, such as an
	// environment variable that looks like ours and is not.
	Warnings []string

	// NATS are the servers to connect to. Empty means the embedded server for
	// the service, and [Config.Servers] for a client command.
	NATS []URL
	// Context is the name of a context of the nats command line, or
	// [SelectedContext]. It excludes NATS and all credentials below.
	Context string
	// Creds and NKey are paths of a credentials file and of a file with an
	// nkey seed.
	Creds, NKey string
	// User and Password, or Token, are presented to the server. The embedded
	// server asks for them when they are set.
	User     string
	Password Secret
	Token    Secret
	// TLSCA, TLSCert and TLSKey are paths of PEM files.
	TLSCA, TLSCert, TLSKey string

	// StoreDir is where the embedded server keeps its files.
	StoreDir string
	// Listen is the address of the embedded server, as host:port.
	Listen string
	// SyncAlways and SyncInterval say when the embedded server forces written
	// data to the disk: at every write, or at this interval.
	SyncAlways   bool
	SyncInterval time.Duration
	// MaxStore bounds the bytes of all streams of the embedded server. 0 means
	// the server's default.
	MaxStore int64

	// Redis is where the instances share their circuit breakers; the zero URL
	// means NATS.
	Redis URL

	// HTTP is the address of the HTTP server, as host:port. Empty means none.
	HTTP string
	// Replicas is how many servers store each stream. 0 means automatic: 1
	// with one server, 3 with a cluster.
	Replicas int
	// Prefix is the first token of all subjects; the streams' names bear it in
	// upper case.
	Prefix string
	// Policies is the path of a policy file, or empty.
	Policies string

	// OutcomesMaxAge and OutcomesMaxBytes bound the stream of outcomes. 0
	// means no bound.
	OutcomesMaxAge   time.Duration
	OutcomesMaxBytes int64
	// DeadMaxAge bounds how long dead letters are kept. 0 means for ever.
	DeadMaxAge time.Duration
	// MaxSubmitted bounds how many submissions of one service wait to be taken
	// in. 0 means no bound.
	MaxSubmitted int
	// Lease is how long an operation waits for another instance when the one
	// that has it in hand dies, from 2 s to an hour.
	Lease time.Duration
	// MaxInFlight and MaxInFlightBytes bound what one instance holds in
	// memory, un-acknowledged, in operations and in bytes.
	MaxInFlight      int
	MaxInFlightBytes int64

	// Backpressure says when global backpressure turns on and when an instance takes less;
	// [gate.Off] is for a limit that is not in force.
	Backpressure gate.Limits

	// ForgetIdleAfter is how long an instance remembers a key that is not used, at least
	// a second.
	ForgetIdleAfter time.Duration

	LogLevel slog.Level
	// LogFormat is "text" or "json".
	LogFormat string

	values      []Value
	defaultURLs []URL
}

// SelectedContext is the value of Context for the context that
// `nats context select` chose.
const SelectedContext = "@selected"

// DefaultServer is where a client command finds NATS when nothing is configured.
const DefaultServer = "nats://127.0.0.1:4222"

// Embedded reports whether the service runs its own NATS server: neither a URL
// nor a context is configured.
func (c *Config) Embedded() bool { return len(c.NATS) == 0 && c.Context == "" }

// Servers returns the servers that a client command connects to: those that are
// configured, else those in the variable NATS_URL, else [DefaultServer]. Its
// result has no meaning when Context is set.
func (c *Config) Servers() []URL {
	switch {
	case len(c.NATS) > 0:
		return c.NATS
	case len(c.defaultURLs) > 0:
		return c.defaultURLs
	}
	return []URL{{raw: DefaultServer}}
}

// ListenHostPort returns the parts of Listen. Port 0 becomes -1, which makes
// the embedded server choose a free port.
func (c *Config) ListenHostPort() (host string, port int) {
	host, p, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return c.Listen, -1
	}
	if port, err = strconv.Atoi(p); err != nil || port == 0 {
		port = -1
	}
	if host == "" {
		host = "0.0.0.0"
	}
	return host, port
}

// Values returns every setting with its value and source, in documented order.
// Secrets are redacted.
func (c *Config) Values() []Value { return append([]Value(nil), c.values...) }

// String returns every setting, one a line, with secrets redacted.
func (c Config) String() string {
	var b strings.Builder
	for _, v := range c.values {
		fmt.Fprintf(&b, "%s = %s (%s)\n", v.Key, v.Value, v.Source)
	}
	return b.String()
}

// GoString returns what String returns.
func (c Config) GoString() string { return c.String() }

// LogValue implements [slog.LogValuer].
func (c Config) LogValue() slog.Value {
	attrs := make([]slog.Attr, len(c.values))
	for i, v := range c.values {
		attrs[i] = slog.String(v.Key, v.Value)
	}
	return slog.GroupValue(attrs...)
}
