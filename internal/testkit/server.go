package testkit

import (
	"net"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/internal/embedded"
	"github.com/rebound-mq/rebound/internal/testkit/natsd"
)

// NATSServer is a NATS server with JetStream in its own process.
type NATSServer struct {
	process  *natsProcess
	port     int
	storeDir string
	stop     sync.Once
}

// Server starts a NATS server with JetStream on files in t.TempDir(), on a [Port], and stops it
// when the test ends. It runs in its own process, which the race detector of the test does not slow
// down. change may modify the options, for example the store directory to start on the files of an
// earlier server.
func Server(t testing.TB, change ...func(*embedded.Options)) *NATSServer {
	t.Helper()
	var o embedded.Options
	for _, f := range change {
		f(&o)
	}
	if o.Port == 0 {
		o.Port = Port(t)
	}
	if o.StoreDir == "" {
		o.StoreDir = t.TempDir()
	}
	process, err := startNATS(natsd.Config{Single: &o}, logWriter(t))
	if err != nil {
		t.Fatalf("testkit: starting a NATS server: %v", err)
	}
	s := &NATSServer{process: process, port: o.Port, storeDir: o.StoreDir}
	t.Cleanup(s.Shutdown)
	return s
}

// Shutdown stops the server and waits until its files are closed.
func (s *NATSServer) Shutdown() { s.stop.Do(s.process.stop) }

// Freeze stops the server's process without ending it, until Thaw or the end of the test.
func (s *NATSServer) Freeze(t testing.TB) {
	t.Helper()
	t.Cleanup(func() { s.Thaw(t) })
	if err := s.process.signal(syscall.SIGSTOP); err != nil {
		t.Fatalf("testkit: freezing a NATS server: %v", err)
	}
}

// Thaw lets a frozen server go on.
func (s *NATSServer) Thaw(t testing.TB) {
	t.Helper()
	if err := s.process.signal(syscall.SIGCONT); err != nil {
		t.Errorf("testkit: thawing a NATS server: %v", err)
	}
}

// Port returns the port that the server listens on.
func (s *NATSServer) Port() int { return s.port }

// Addr returns the address that the server listens on, as host:port.
func (s *NATSServer) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// ClientURL returns the URL at which clients reach the server.
func (s *NATSServer) ClientURL() string { return "nats://" + s.Addr() }

// StoreDir returns the directory given for JetStream's files.
func (s *NATSServer) StoreDir() string { return s.storeDir }

// PlainServer starts a NATS server with these options on a [Port], in the process of the test, and
// stops it when the test ends. It is for options that [Server] lacks.
func PlainServer(t testing.TB, o *server.Options) *server.Server {
	t.Helper()
	o.Host, o.Port = "127.0.0.1", Port(t)
	o.NoLog, o.NoSigs = true, true
	s, err := server.NewServer(o)
	if err != nil {
		t.Fatalf("testkit: making a NATS server: %v", err)
	}
	go s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(startTimeout) {
		t.Fatalf("testkit: the NATS server accepted no connections within %s", startTimeout)
	}
	return s
}

// Connect connects to the server at url and closes the connection when the test ends. The
// connection reconnects indefinitely, every 50 ms.
func Connect(t testing.TB, url string, options ...nats.Option) *nats.Conn {
	t.Helper()
	options = append([]nats.Option{
		nats.Name(t.Name()),
		nats.Timeout(10 * time.Second),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(50 * time.Millisecond),
	}, options...)
	nc, err := nats.Connect(url, options...)
	if err != nil {
		t.Fatalf("testkit: connecting to %s: %v", url, err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// callTimeout bounds a call of JetStream by a test. It outlasts a machine that stands still for a
// while.
const callTimeout = 15 * time.Second

// JetStream returns the JetStream interface of a connection.
func JetStream(t testing.TB, nc *nats.Conn) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(callTimeout))
	if err != nil {
		t.Fatalf("testkit: JetStream: %v", err)
	}
	return js
}

// JetStreamIn returns JetStream in a domain.
func JetStreamIn(t testing.TB, nc *nats.Conn, domain string) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.NewWithDomain(nc, domain, jetstream.WithDefaultTimeout(callTimeout))
	if err != nil {
		t.Fatalf("testkit: JetStream in domain %s: %v", domain, err)
	}
	return js
}
