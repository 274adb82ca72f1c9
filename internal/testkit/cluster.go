package testkit

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rebound-mq/rebound/internal/testkit/natsd"
)

// Nodes is a running NATS cluster with JetStream, with each server in its own process.
type Nodes struct {
	t     testing.TB
	nodes []*natsd.Node
	// servers are the running servers; a stopped one is nil.
	servers []*natsProcess
}

// Cluster starts a cluster of n servers with JetStream on files, waits until it has a leader that
// every server follows, and stops it when the test ends.
func Cluster(t testing.TB, n int) *Nodes {
	t.Helper()
	if n < 2 {
		t.Fatalf("testkit: a cluster has at least 2 servers, not %d", n)
	}
	c := &Nodes{t: t, servers: make([]*natsProcess, n)}
	routes := make([]string, n)
	for i := range n {
		port := Port(t)
		routes[i] = fmt.Sprintf("nats://127.0.0.1:%d", port)
		c.nodes = append(c.nodes, &natsd.Node{
			Name: fmt.Sprintf("node-%d", i+1), StoreDir: t.TempDir(), Port: Port(t), ClusterPort: port, Routes: routes,
		})
	}
	t.Cleanup(c.stopAll)
	if err := c.start(); err != nil {
		t.Fatalf("testkit: starting a cluster of %d: %v", n, err)
	}
	return c
}

func (c *Nodes) start() error {
	for i := range c.nodes {
		if err := c.run(i); err != nil {
			return err
		}
	}
	return c.awaitReady()
}

func (c *Nodes) run(i int) error {
	s, err := startNATS(natsd.Config{Node: c.nodes[i]}, logWriter(c.t))
	if err != nil {
		return err
	}
	c.servers[i] = s
	return nil
}

// awaitReady waits until one server leads and all running ones follow it.
func (c *Nodes) awaitReady() error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(startTimeout)
	for range tick.C {
		if c.ready() {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("no JetStream leader, or a server that does not follow it, after %v", startTimeout)
		}
	}
	return nil
}

func (c *Nodes) ready() bool {
	leaders := 0
	for _, s := range c.servers {
		if s == nil {
			continue
		}
		state, err := s.state()
		if err != nil || !state.Current {
			return false
		}
		if state.Leads {
			leaders++
			if state.Peers < len(c.servers) {
				return false
			}
		}
	}
	return leaders == 1
}

// URL returns the addresses of all servers, separated by commas, as accepted by [nats.Connect].
func (c *Nodes) URL() string { return strings.Join(c.URLs(), ",") }

// URLs returns the address of each server.
func (c *Nodes) URLs() []string {
	urls := make([]string, len(c.nodes))
	for i, n := range c.nodes {
		urls[i] = fmt.Sprintf("nats://127.0.0.1:%d", n.Port)
	}
	return urls
}

// Leader returns the index of the server that leads JetStream's meta group, or -1 if there is
// none.
func (c *Nodes) Leader() int {
	for i, s := range c.servers {
		if s == nil {
			continue
		}
		if state, err := s.state(); err == nil && state.Leads {
			return i
		}
	}
	return -1
}

// Stop stops the server with this index and waits until it is down.
func (c *Nodes) Stop(i int) {
	if s := c.servers[i]; s != nil {
		s.stop()
		c.servers[i] = nil
	}
}

// Kill ends the server with this index without any warning, as kill -9 does.
func (c *Nodes) Kill(i int) {
	if s := c.servers[i]; s != nil {
		s.kill()
		c.servers[i] = nil
	}
}

// Restart starts stopped servers again, with their files and ports, and waits until the cluster
// is whole.
func (c *Nodes) Restart(stopped ...int) {
	c.t.Helper()
	for _, i := range stopped {
		if c.servers[i] != nil {
			c.t.Fatalf("testkit: server %d is running", i)
		}
		if err := c.run(i); err != nil {
			c.t.Fatalf("testkit: restarting server %d: %v", i, err)
		}
	}
	if err := c.awaitReady(); err != nil {
		c.t.Fatalf("testkit: restarting servers %v: %v", stopped, err)
	}
}

func (c *Nodes) stopAll() {
	for i := range c.servers {
		c.Stop(i)
	}
}
