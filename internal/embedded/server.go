package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// RandomPort lets the operating system choose the port.
const RandomPort = natsd.RANDOM_PORT

// Options configure an embedded server. StoreDir is required.
type Options struct {
	// StoreDir is the directory of the streams. It is created with mode 0700 if it is missing.
	StoreDir string
	// Host is the address to listen on. Empty means 127.0.0.1.
	Host string
	// Port is the port to listen on: 0 means 4222, [RandomPort] a free one.
	Port int
	// Name is the server's name in its own messages. Empty means "rebound".
	Name string
	// SyncInterval is how often written data is synced to the disk. 0 means the server's default
	// of two minutes.
	SyncInterval time.Duration
	// SyncAlways syncs every write to the disk before it is acknowledged.
	SyncAlways bool
	// MaxStore bounds the bytes of the streams on disk. 0 means the server's default: three
	// quarters of the free space.
	MaxStore int64
	// MaxPayload bounds the bytes of a message. 0 means the server's default of 1 MiB.
	MaxPayload int32
	// User and Password, or Token, are required from clients. All empty means that no credentials
	// are required.
	User, Password, Token string
	// Logger receives the server's messages. Nil discards them.
	Logger *slog.Logger
}

// Server is a running embedded server. Its methods are safe for concurrent use.
type Server struct {
	server *natsd.Server
	lock   *dirLock
	port   int
	host   string
	logger *slog.Logger
	done   chan struct{}
	stop   sync.Once
	log    *serverLog
	// config is the configuration with which JetStream was started.
	config natsd.JetStreamConfig
	// trouble is the result of [Server.Trouble], a string.
	trouble atomic.Value
	// endRevival stops revive, and revival waits for it.
	endRevival context.CancelFunc
	revival    sync.WaitGroup
}

// Start runs a server and returns once it is ready: its streams are recovered and its port
// accepts connections. If ctx ends first, it returns an error after the server has shut down.
//
// The error is a [*PortError] if the server cannot listen on the address, a [*StoreError] if the
// directory cannot be used, and a [*LockError] if another process uses it.
func Start(ctx context.Context, o Options) (*Server, error) {
	o = o.withDefaults()
	lock, err := prepareStore(o)
	if err != nil {
		return nil, err
	}
	s, err := startLocked(ctx, o)
	if err != nil {
		lock.release()
		return nil, err
	}
	s.lock = lock
	s.announce(o)
	return s, nil
}

func (o Options) withDefaults() Options {
	if o.Host == "" {
		o.Host = "127.0.0.1"
	}
	if o.Port == 0 {
		o.Port = natsd.DEFAULT_PORT
	}
	if o.Name == "" {
		o.Name = "rebound"
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// prepareStore creates the store directory, checks that it can be written and locks it.
func prepareStore(o Options) (*dirLock, error) {
	if o.StoreDir == "" {
		return nil, &StoreError{Err: errors.New("no directory is given")}
	}
	if err := os.MkdirAll(o.StoreDir, 0o700); err != nil {
		return nil, &StoreError{Dir: o.StoreDir, Err: err}
	}
	probe, err := os.CreateTemp(o.StoreDir, ".writable-*")
	if err != nil {
		return nil, &StoreError{Dir: o.StoreDir, Err: err}
	}
	err = errors.Join(probe.Close(), os.Remove(probe.Name()))
	if err != nil {
		return nil, &StoreError{Dir: o.StoreDir, Err: err}
	}
	return lockDir(o.StoreDir)
}

// startLocked runs a server on files that no other server uses.
func startLocked(ctx context.Context, o Options) (*Server, error) {
	if err := probePort(ctx, o.Host, o.Port); err != nil {
		return nil, err
	}
	server, err := natsd.NewServer(o.server())
	if err != nil {
		return nil, fmt.Errorf("embedded NATS server: %w", err)
	}
	log := newServerLog(o.Logger)
	server.SetLoggerV2(log, o.Logger.Enabled(ctx, levelServerDebug), false, false)
	port, err := awaitReady(ctx, server, log)
	if err != nil {
		server.Shutdown()
		server.WaitForShutdown()
		return nil, startError(o, err)
	}
	s := &Server{
		server: server, host: o.Host, port: port, logger: o.Logger, done: make(chan struct{}),
		log: log, config: jetStreamConfig(server, o),
	}
	reviveCtx, end := context.WithCancel(context.Background())
	s.endRevival = end
	s.revival.Go(func() { s.revive(reviveCtx) })
	go func() {
		server.WaitForShutdown()
		close(s.done)
	}()
	return s, nil
}

// server returns the options of nats-server.
func (o Options) server() *natsd.Options {
	return &natsd.Options{
		ServerName:             o.Name,
		Host:                   o.Host,
		Port:                   o.Port,
		Username:               o.User,
		Password:               o.Password,
		Authorization:          o.Token,
		MaxPayload:             o.MaxPayload,
		JetStream:              true,
		JetStreamMaxStore:      o.MaxStore,
		StoreDir:               o.StoreDir,
		SyncInterval:           o.SyncInterval,
		SyncAlways:             o.SyncAlways,
		DisableJetStreamBanner: true,
		NoSigs:                 true,
		NoLog:                  true,
	}
}

// awaitReady starts the server, waits until it is ready and returns its port.
func awaitReady(ctx context.Context, server *natsd.Server, log *serverLog) (port int, err error) {
	started := make(chan struct{})
	go func() {
		defer close(started)
		server.Start()
	}()
	select {
	case <-started:
		err = log.fatal()
	case <-ctx.Done():
		// Recovery cannot be interrupted. Waiting is better than two servers on the same files.
		<-started
		err = fmt.Errorf("embedded NATS server: start was cancelled: %w", context.Cause(ctx))
	}
	if err != nil {
		return 0, err
	}
	addr, listening := server.Addr().(*net.TCPAddr)
	if !listening || !server.JetStreamEnabled() {
		return 0, errors.New("it did not become ready")
	}
	return addr.Port, nil
}

// probePort checks that the server can listen on the address, before it recovers its streams,
// which may take a while.
func probePort(ctx context.Context, host string, port int) error {
	if port == RandomPort {
		port = 0
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return &PortError{Host: host, Port: port, Err: err}
	}
	return l.Close()
}

func startError(o Options, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return &PortError{Host: o.Host, Port: o.Port, Err: err}
	}
	return fmt.Errorf("embedded NATS server: %w", err)
}

func (s *Server) announce(o Options) {
	sync := "every 2m0s"
	switch {
	case o.SyncAlways:
		sync = "always"
	case o.SyncInterval > 0:
		sync = "every " + o.SyncInterval.String()
	}
	s.logger.Info("the embedded NATS server is ready",
		"url", s.ClientURL(), "store", o.StoreDir, "sync", sync, "version", natsd.VERSION)
	open := o.User == "" && o.Token == ""
	if ip := net.ParseIP(o.Host); open && o.Host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		s.logger.Warn("the embedded NATS server asks for no credentials and listens beyond this machine",
			"address", s.Addr())
	}
}

// InProcess returns a connection option that reaches the server without a network. Credentials
// are still required if the server has any.
func (s *Server) InProcess() nats.Option { return nats.InProcessServer(s.server) }

// ClientURL returns a URL for clients on this machine. It never contains credentials.
func (s *Server) ClientURL() string {
	host := s.host
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "nats://" + net.JoinHostPort(host, strconv.Itoa(s.port))
}

// Addr returns the address that the server listens on, as host:port.
func (s *Server) Addr() string { return net.JoinHostPort(s.host, strconv.Itoa(s.port)) }

// Port returns the port that the server listens on.
func (s *Server) Port() int { return s.port }

// StoreDir returns the directory in which JetStream keeps its files.
func (s *Server) StoreDir() string { return s.config.StoreDir }

// Done returns a channel that is closed when the server is down, for whatever reason.
func (s *Server) Done() <-chan struct{} { return s.done }

// Shutdown stops the server, waits until its files are closed and unlocks the store directory.
// Further calls wait for the first one.
func (s *Server) Shutdown() {
	s.stop.Do(func() {
		s.endRevival()
		s.revival.Wait()
		s.server.Shutdown()
		<-s.done
		s.lock.release()
	})
}
