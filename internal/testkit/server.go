package testkit

import (
	"context"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/internal/embedded"
)

// startTimeout bounds the start of one server or process on a busy machine.
const startTimeout = 60 * time.Second

// Server starts a NATS server with JetStream on files in t.TempDir(), on a
// random port, and stops it when the test ends. A change may alter the options,
// for example the store directory to start a server on the files of an earlier
// one.
func Server(t testing.TB, change ...func(*embedded.Options)) *embedded.Server {
	t.Helper()
	o := embedded.Options{Port: embedded.RandomPort, Logger: Logger(t)}
	for _, f := range change {
		f(&o)
	}
	if o.StoreDir == "" {
		o.StoreDir = t.TempDir()
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	s, err := embedded.Start(ctx, o)
	if err != nil {
		t.Fatalf("testkit: starting a NATS server: %v", err)
	}
	t.Cleanup(s.Shutdown)
	return s
}

// PlainServer starts a NATS server of those options on a random port of the loopback
// address, for what [Server] cannot be told, and stops it when the test ends.
func PlainServer(t testing.TB, o *natsd.Options) *natsd.Server {
	t.Helper()
	o.Host, o.Port = "127.0.0.1", natsd.RANDOM_PORT
	o.NoLog, o.NoSigs = true, true
	s, err := natsd.NewServer(o)
	if err != nil {
		t.Fatalf("testkit: making a NATS server: %v", err)
	}
	go s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(startTimeout) {
		t.Fatalf("testkit: the NATS server accepts no connections within %s", startTimeout)
	}
	return s
}

// Connect connects to the server at url and closes the connection when the test
// ends. The connection reconnects for ever, every 50 ms.
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

// JetStream returns the JetStream interface of a connection.
func JetStream(t testing.TB, nc *nats.Conn) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatalf("testkit: JetStream: %v", err)
	}
	return js
}

// JetStreamIn returns JetStream in a domain.
func JetStreamIn(t testing.TB, nc *nats.Conn, domain string) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.NewWithDomain(nc, domain)
	if err != nil {
		t.Fatalf("testkit: JetStream in domain %s: %v", domain, err)
	}
	return js
}
