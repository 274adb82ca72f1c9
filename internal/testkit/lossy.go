package testkit

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
)

// Publication is a message that a client publishes, as it is on the wire.
type Publication struct {
	Subject, Reply string
	// Data is the payload without headers.
	Data []byte
}

// Deliveries returns how often the server says that it has delivered the message that the
// publication settles. ok is false if it settles none, or does not tell.
func (p Publication) Deliveries() (n uint64, ok bool) {
	settled := nats.Msg{Reply: p.Subject, Sub: new(nats.Subscription)}
	meta, err := settled.Metadata()
	if err != nil {
		return 0, false
	}
	return meta.NumDelivered, true
}

// Fate is what becomes of a publication.
type Fate int

const (
	// Pass lets it through.
	Pass Fate = iota
	// Lose drops it.
	Lose
	// Keep holds it back until [LossyProxy.Release], while what follows it passes.
	Keep
)

// LossyProxy is a TCP proxy to a NATS server that loses or delays what clients publish. Of one
// that it loses nobody learns: the connection goes on. It passes no TLS.
type LossyProxy struct {
	t        testing.TB
	upstream string
	fate     func(Publication) Fate
	listener net.Listener
	tasks    sync.WaitGroup

	mu     sync.Mutex // guards the fields below
	closed bool
	conns  map[net.Conn]struct{}
	lost   int
	kept   []keptPublication
}

type keptPublication struct {
	to  *upstreamConn
	raw []byte
}

// upstreamConn is a connection to the server, to which whole messages are written.
type upstreamConn struct {
	net.Conn
	mu sync.Mutex
}

// takes writes a message and reports whether it was written.
func (c *upstreamConn) takes(raw []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.Write(raw)
	return err == nil
}

// Lossy starts a proxy to a NATS server at upstream, a host:port, on a free port, and stops it
// when the test ends. fate is asked for each publication, concurrently for several connections.
func Lossy(t testing.TB, upstream string, fate func(Publication) Fate) *LossyProxy {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		cancel()
		t.Fatalf("testkit: starting a proxy to %s: %v", upstream, err)
	}
	p := &LossyProxy{t: t, upstream: upstream, fate: fate, listener: l, conns: make(map[net.Conn]struct{})}
	p.tasks.Go(func() { p.accept(ctx) })
	t.Cleanup(p.stop)
	t.Cleanup(cancel)
	return p
}

// URL returns the URL at which clients reach the server through the proxy.
func (p *LossyProxy) URL() string { return "nats://" + p.listener.Addr().String() }

// Lost returns how many publications were lost.
func (p *LossyProxy) Lost() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lost
}

// Kept returns how many publications are held back.
func (p *LossyProxy) Kept() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.kept)
}

// Release lets what is held back through, in its order. What a closed connection published is
// lost.
func (p *LossyProxy) Release() {
	p.mu.Lock()
	kept := p.kept
	p.kept = nil
	p.mu.Unlock()
	for _, k := range kept {
		if !k.to.takes(k.raw) {
			p.mu.Lock()
			p.lost++
			p.mu.Unlock()
		}
	}
}

func (p *LossyProxy) stop() {
	_ = p.listener.Close()
	p.mu.Lock()
	p.closed = true
	for c := range p.conns {
		_ = c.Close()
	}
	p.mu.Unlock()
	p.tasks.Wait()
}

// track keeps connections to be closed when the proxy stops. It reports whether it runs still.
func (p *LossyProxy) track(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		p.conns[c] = struct{}{}
	}
	return !p.closed
}

func (p *LossyProxy) forget(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		delete(p.conns, c)
		_ = c.Close()
	}
}

func (p *LossyProxy) accept(ctx context.Context) {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return // it is stopped
		}
		p.tasks.Go(func() { p.serve(ctx, client) })
	}
}

// serve passes on what goes through one connection until either side closes it.
func (p *LossyProxy) serve(ctx context.Context, client net.Conn) {
	server, err := new(net.Dialer).DialContext(ctx, "tcp", p.upstream)
	if err != nil {
		_ = client.Close()
		return
	}
	defer p.forget(client, server)
	if !p.track(client, server) {
		return
	}
	var answers sync.WaitGroup
	defer answers.Wait()
	answers.Go(func() {
		_, _ = io.Copy(client, server) // ends with either connection
		p.forget(client, server)
	})
	if err := p.publish(bufio.NewReader(client), &upstreamConn{Conn: server}); err != nil {
		p.t.Errorf("testkit: a proxy to a NATS server: %v", err)
	}
	p.forget(client, server)
}

// publish reads a client's protocol and passes on what is not lost. The error is that the
// protocol is not understood; that of a closed connection is none.
func (p *LossyProxy) publish(client *bufio.Reader, server *upstreamConn) error {
	for {
		raw, pub, err := readOperation(client)
		if err != nil || raw == nil {
			return err
		}
		if pub != nil && p.withhold(*pub, server, raw) {
			continue
		}
		if !server.takes(raw) {
			return nil
		}
	}
}

// withhold reports whether a publication must not pass now.
func (p *LossyProxy) withhold(pub Publication, server *upstreamConn, raw []byte) bool {
	fate := p.fate(pub)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch fate {
	case Pass:
		return false
	case Lose:
		p.lost++
	case Keep:
		p.kept = append(p.kept, keptPublication{server, raw})
	}
	return true
}

// readOperation reads one operation of the client protocol, with its payload. pub is nil unless
// it publishes. raw is nil when the connection is closed.
func readOperation(client *bufio.Reader) (raw []byte, pub *Publication, err error) {
	line, err := client.ReadBytes('\n')
	if err != nil {
		return nil, nil, nil //nolint:nilerr // the connection is closed
	}
	fields := strings.Fields(string(line))
	if len(fields) == 0 {
		return line, nil, nil
	}
	var sizes int // how many fields at the end are sizes
	switch strings.ToUpper(fields[0]) {
	case "PUB":
		sizes = 1
	case "HPUB":
		sizes = 2
	default:
		return line, nil, nil
	}
	names := len(fields) - sizes - 1 // the subject, and perhaps the reply
	if names != 1 && names != 2 {
		return nil, nil, fmt.Errorf("%q publishes nothing", bytes.TrimSpace(line))
	}
	total, err := strconv.Atoi(fields[len(fields)-1])
	header := 0
	if err == nil && sizes == 2 {
		header, err = strconv.Atoi(fields[len(fields)-2])
	}
	if err != nil || header < 0 || header > total {
		return nil, nil, fmt.Errorf("%q has no sizes: %w", bytes.TrimSpace(line), err)
	}
	raw = append(line, make([]byte, total+len("\r\n"))...)
	if _, err := io.ReadFull(client, raw[len(line):]); err != nil {
		return nil, nil, nil //nolint:nilerr // the connection is closed
	}
	pub = &Publication{Subject: fields[1], Data: raw[len(line)+header : len(raw)-len("\r\n")]}
	if names == 2 {
		pub.Reply = fields[2]
	}
	return raw, pub, nil
}
