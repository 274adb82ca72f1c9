package config

import (
	"strings"

	"github.com/rebound-mq/rebound/events"
)

// setting is one row of the table below. Its flag is its key; its variable is
// REBOUND_ and the key in capitals.
type setting struct {
	key string
	// kind is the word for its value in the help text.
	kind string
	// standard is the default as a user would write it. The default of store-dir
	// is found at run time.
	standard string
	help     string
	// client settings are about the connection or the log and exist in client
	// commands too. The others belong to the service alone.
	client bool
	// secret values are never shown.
	secret bool
	// path values are resolved: ~ to the home directory and, in a file,
	// relative paths against the directory of that file.
	path bool
	// set reads the text into the configuration.
	set func(c *Config, text string) error
}

func (s *setting) flag() string { return s.key }

func (s *setting) variable() string {
	return variablePrefix + strings.ToUpper(strings.ReplaceAll(s.key, "-", "_"))
}

const variablePrefix = "REBOUND_"

// The path of the configuration file is not a setting.
const (
	fileFlag     = "config"
	fileVariable = variablePrefix + "CONFIG"
	fileName     = "rebound/rebound.yaml"
)

var settings = []setting{
	{
		key: "nats", kind: "urls", client: true,
		help: "NATS servers to connect to, separated by commas; the service runs its own server without",
		set:  func(c *Config, s string) error { return setURLs(&c.NATS, s) },
	},
	{
		key: "context", kind: "name", client: true,
		help: "context of the nats command line to connect with; " + SelectedContext + " is the selected one",
		set:  func(c *Config, s string) error { return setContext(&c.Context, s) },
	},
	{
		key: "creds", kind: "file", client: true, path: true,
		help: "NATS credentials file",
		set:  func(c *Config, s string) error { return setPath(&c.Creds, s) },
	},
	{
		key: "nkey", kind: "file", client: true, path: true,
		help: "file with an nkey seed",
		set:  func(c *Config, s string) error { return setPath(&c.NKey, s) },
	},
	{
		key: "user", kind: "name", client: true,
		help: "user name; the embedded server asks for it, too",
		set:  func(c *Config, s string) error { return setText(&c.User, s) },
	},
	{
		key: "password", kind: "text", client: true, secret: true,
		help: "password of the user; other users of this machine can read flags, so prefer the variable or the file",
		set:  func(c *Config, s string) error { return setText(&c.Password, s) },
	},
	{
		key: "token", kind: "text", client: true, secret: true,
		help: "authentication token; prefer the variable or the file, as for the password",
		set:  func(c *Config, s string) error { return setText(&c.Token, s) },
	},
	{
		key: "tls-ca", kind: "file", client: true, path: true,
		help: "certificates (PEM) of the authorities that sign the servers' certificates",
		set:  func(c *Config, s string) error { return setPath(&c.TLSCA, s) },
	},
	{
		key: "tls-cert", kind: "file", client: true, path: true,
		help: "certificate (PEM) to show to the server",
		set:  func(c *Config, s string) error { return setPath(&c.TLSCert, s) },
	},
	{
		key: "tls-key", kind: "file", client: true, path: true,
		help: "private key (PEM) of that certificate",
		set:  func(c *Config, s string) error { return setPath(&c.TLSKey, s) },
	},
	{
		key: "prefix", kind: "token", standard: "retry", client: true,
		help: "first token of all subjects; streams and endpoints are named after it",
		set:  func(c *Config, s string) error { return setPrefix(&c.Prefix, s) },
	},
	{
		key: "redis", kind: "url",
		help: "Redis in which instances share their circuit breakers, redis:// or rediss:// (TLS); with ?master_name=NAME Sentinel, with ?addr=HOST:PORT a Cluster; in NATS without",
		set:  func(c *Config, s string) error { return setRedis(&c.Redis, s) },
	},
	{
		key: "store-dir", kind: "directory", path: true,
		help: "where the embedded server keeps its files (default $XDG_STATE_HOME/rebound or ~/.local/state/rebound)",
		set:  func(c *Config, s string) error { return setPath(&c.StoreDir, s) },
	},
	{
		key: "listen", kind: "host:port", standard: "127.0.0.1:4222",
		help: "address of the embedded server; port 0 chooses a free one",
		set:  func(c *Config, s string) error { return setAddress(&c.Listen, s) },
	},
	{
		key: "http", kind: "host:port", standard: "127.0.0.1:8422",
		help: `address of health, metrics and console; "off" serves none`,
		set:  func(c *Config, s string) error { return setOptionalAddress(&c.HTTP, s) },
	},
	{
		key: "replicas", kind: "number", standard: "0",
		help: "servers that store each stream, 1 to 5; 0 means 1 with one server and 3 with a cluster",
		set:  func(c *Config, s string) error { return setNumber(&c.Replicas, s, 0, 5) },
	},
	{
		key: "policies", kind: "file", path: true,
		help: "policy file (YAML) to start with",
		set:  func(c *Config, s string) error { return setPath(&c.Policies, s) },
	},
	{
		key: "sync-interval", kind: "duration", standard: "2m",
		help: `how often the embedded server forces written data to the disk; "always" does so before each acknowledgement`,
		set:  func(c *Config, s string) error { return setSync(c, s) },
	},
	{
		key: "max-store", kind: "bytes", standard: "0",
		help: "most bytes of the embedded server's streams on disk; 0 means three quarters of what is free",
		set:  func(c *Config, s string) error { return setBytes(&c.MaxStore, s, 0) },
	},
	{
		key: "outcomes-max-age", kind: "duration", standard: "7d",
		help: "how long outcomes and events are kept; 0 means for ever",
		set:  func(c *Config, s string) error { return setAge(&c.OutcomesMaxAge, s) },
	},
	{
		key: "outcomes-max-bytes", kind: "bytes", standard: "0",
		help: "most bytes of outcomes and events, the oldest go first; 0 means no bound",
		set:  func(c *Config, s string) error { return setBytes(&c.OutcomesMaxBytes, s, 0) },
	},
	{
		key: "dead-max-age", kind: "duration", standard: "0",
		help: "how long dead letters are kept; 0 means for ever",
		set:  func(c *Config, s string) error { return setAge(&c.DeadMaxAge, s) },
	},
	{
		key: "max-submitted", kind: "number", standard: "0",
		help: "most submissions of one service that wait to be taken in, what is more is refused; 0 means no bound. " +
			"What is published to the stream itself is bounded by operation type, if the stream is made with this",
		set: func(c *Config, s string) error { return setNumber(&c.MaxSubmitted, s, 0, 1_000_000_000) },
	},
	{
		key: "lease", kind: "duration", standard: "30s",
		help: "how long an operation waits for another instance when the one that has it in hand dies; at least 2s",
		set:  func(c *Config, s string) error { return setLease(&c.Lease, s) },
	},
	{
		key: "max-in-flight", kind: "number", standard: "8192",
		help: "most operations that one instance holds in memory",
		set:  func(c *Config, s string) error { return setNumber(&c.MaxInFlight, s, 1, 1_000_000) },
	},
	{
		key: "max-in-flight-bytes", kind: "bytes", standard: "256MiB",
		help: "most bytes of operations that one instance holds in memory",
		set:  func(c *Config, s string) error { return setBytes(&c.MaxInFlightBytes, s, 1<<20) },
	},
	{
		key: "pressure-failure-share", kind: "share", standard: "0.75",
		help: `most services fail when so many of them do, from 0 to 1, each with so many of its attempts; then a key that fails too has one attempt a second. "off" never slows one`,
		set:  func(c *Config, s string) error { return setShare(&c.Backpressure.FailureShare, s) },
	},
	{
		key: "pressure-services", kind: "number", standard: "3",
		help: "how many services must have attempts for that",
		set:  func(c *Config, s string) error { return setNumber(&c.Backpressure.Services, s, 1, events.MaxServices) },
	},
	{
		key: "pressure-active", kind: "number", standard: "10000",
		help: `attempts in flight over all instances from which on new ones go as others end; "off" for no limit`,
		set:  func(c *Config, s string) error { return setLimit(&c.Backpressure.Active, s) },
	},
	{
		key: "pressure-store-delay", kind: "duration", standard: "1s",
		help: `response time of NATS or Redis from which on instances take less; "off" for no limit`,
		set:  func(c *Config, s string) error { return setDelay(&c.Backpressure.StoreDelay, s) },
	},
	{
		key: "pressure-scheduler-delay", kind: "duration", standard: "50ms",
		help: `how long 99 of 100 goroutines may wait for a CPU in an instance that keeps up; beyond that others take over. "off" for no limit`,
		set:  func(c *Config, s string) error { return setDelay(&c.Backpressure.SchedulerDelay, s) },
	},
	{
		key: "pressure-cpu", kind: "share", standard: "0.5",
		help: `share of the time, from 0 to 1, in which the instance's cgroup may wait for a CPU; beyond that others take over. "off" for no limit`,
		set:  func(c *Config, s string) error { return setShare(&c.Backpressure.CPUPressure, s) },
	},
	{
		key: "pressure-memory", kind: "share", standard: "0.9",
		help: `share of its cgroup's memory limit, from 0 to 1, from which on an instance takes less; "off" for no limit`,
		set:  func(c *Config, s string) error { return setShare(&c.Backpressure.Memory, s) },
	},
	{
		key: "forget-idle-after", kind: "duration", standard: "1h",
		help: "how long an instance remembers a key that is not used, with its closed breaker and its metrics; at least 1s",
		set:  func(c *Config, s string) error { return setForget(&c.ForgetIdleAfter, s) },
	},
	{
		key: "log-level", kind: "level", standard: "info", client: true,
		help: "least important messages to log: debug, info, warn or error",
		set:  func(c *Config, s string) error { return setLevel(&c.LogLevel, s) },
	},
	{
		key: "log-format", kind: "format", standard: "text", client: true,
		help: "format of the log: text or json",
		set:  func(c *Config, s string) error { return setOneOf(&c.LogFormat, s, "text", "json") },
	},
}
