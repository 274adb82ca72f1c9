//go:build linux

package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/internal/backoff"
	"github.com/rebound-mq/rebound/internal/chaos/machine"
)

// node is one NATS server of the cluster.
type node struct {
	*machine.Process
	name            string
	client, cluster int // ports
	store           string
}

func (n *node) url() string { return fmt.Sprintf("nats://127.0.0.1:%d", n.client) }

// nodeTemplate has a system account, with which the operator moves the meta leader, and an
// account for everybody else, which needs no user.
const nodeTemplate = `
server_name: %q
listen: "127.0.0.1:%d"
jetstream { store_dir: %q, max_mem: 256MB, max_file: %s }
cluster {
  name: chaos
  listen: "127.0.0.1:%d"
  no_advertise: true
%s  routes: [%s]
}
accounts {
  SYS { users: [ {user: sys, password: sys} ] }
  APP { jetstream: enabled, users: [ {user: app, password: app} ] }
}
system_account: SYS
no_auth_user: app
`

// startNodes starts the cluster and waits until it has a leader that all follow.
func (h *history) startNodes(ctx context.Context) error {
	for i := range nodeCount {
		n := &node{name: fmt.Sprintf("n%d", i+1), store: filepath.Join(h.dir, fmt.Sprintf("store-%d", i+1))}
		var err error
		if n.client, err = h.ports.Take(); err == nil {
			n.cluster, err = h.ports.Take()
		}
		if err != nil {
			return err
		}
		h.nodes = append(h.nodes, n)
	}
	if err := h.layWires(); err != nil {
		return err
	}
	for i, n := range h.nodes {
		if err := h.startNode(i, n); err != nil {
			return err
		}
	}
	return h.awaitCluster(ctx)
}

func (h *history) startNode(i int, n *node) error {
	file := filepath.Join(h.dir, n.name+".conf")
	if err := os.WriteFile(file, []byte(h.nodeConfig(i)), 0o600); err != nil {
		return err
	}
	var err error
	if n.Process, err = h.process(machine.Command{Name: n.name, Path: h.config.NATSServer, Args: []string{"-c", file}}); err != nil {
		return err
	}
	return n.Start()
}

// nodeConfig returns the configuration of the i-th node.
func (h *history) nodeConfig(i int) string {
	n := h.nodes[i]
	store, size := n.store, "16GB"
	if i == 0 && h.disk != nil {
		store, size = h.disk.Path, "1GB"
	}
	advertise := ""
	if h.kind.Wires {
		// Addresses that the servers advertise would bypass the wires.
		advertise = "  advertise: \"127.0.0.1:1\"\n"
	}
	return fmt.Sprintf(nodeTemplate, n.name, n.client, store, size, n.cluster, advertise, strings.Join(h.routesOf(i), ", "))
}

// routesOf returns the addresses at which the i-th node reaches the others.
func (h *history) routesOf(i int) []string {
	var routes []string
	for j, other := range h.nodes {
		if i == j {
			continue
		}
		port := other.cluster
		if w := h.route(i, j); w != nil {
			port = w.Port()
		}
		routes = append(routes, fmt.Sprintf("\"nats://127.0.0.1:%d\"", port))
	}
	return routes
}

// awaitCluster waits until JetStream answers with all servers present.
func (h *history) awaitCluster(ctx context.Context) error {
	var last error
	err := await(ctx, startWait, func(ctx context.Context) bool {
		nc, err := nats.Connect(h.urls(), nats.UserInfo("sys", "sys"), nats.Timeout(time.Second))
		if err != nil {
			last = err
			return false
		}
		defer nc.Close()
		answer, err := nc.RequestWithContext(ctx, "$SYS.REQ.SERVER.PING.JSZ", nil)
		if err != nil {
			last = err
			return false
		}
		var reply struct {
			Data struct {
				Meta struct {
					Leader string `json:"leader"`
					Size   int    `json:"cluster_size"`
				} `json:"meta_cluster"`
			} `json:"data"`
		}
		if err := json.Unmarshal(answer.Data, &reply); err != nil {
			last = err
			return false
		}
		last = fmt.Errorf("leader %q of %d servers", reply.Data.Meta.Leader, reply.Data.Meta.Size)
		return reply.Data.Meta.Leader != "" && reply.Data.Meta.Size >= nodeCount
	})
	if err != nil {
		return fmt.Errorf("the cluster is not ready (%w): %w", last, err)
	}
	return nil
}

// urls returns the addresses of all nodes, bypassing the wires.
func (h *history) urls() string {
	all := make([]string, len(h.nodes))
	for i, n := range h.nodes {
		all[i] = n.url()
	}
	return strings.Join(all, ",")
}

// connect opens a connection that survives whatever happens to the nodes.
func (h *history) connect(name string) (*nats.Conn, error) {
	nc, err := nats.Connect(h.urls(), nats.Name("chaos "+name), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond),
		nats.ReconnectJitter(50*time.Millisecond, 50*time.Millisecond), nats.ReconnectBufSize(-1), nats.Timeout(2*time.Second),
		nats.PingInterval(2*time.Second), nats.MaxPingsOutstanding(2), nats.RetryOnFailedConnect(true),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		return nil, fmt.Errorf("connecting the %s: %w", name, err)
	}
	h.closers = append(h.closers, nc.Close)
	return nc, nil
}

// await polls done until it returns true, but no longer than bound.
func await(ctx context.Context, bound time.Duration, done func(ctx context.Context) bool) error {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		call, end := context.WithTimeout(ctx, 2*time.Second)
		ok := done(call)
		end()
		if ok {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// streamLeader returns the name of the node that leads a stream.
func streamLeader(ctx context.Context, js jetstream.JetStream, name string) (string, error) {
	s, err := js.Stream(ctx, name)
	if err != nil {
		return "", err
	}
	c := s.CachedInfo().Cluster
	if c == nil || c.Leader == "" {
		return "", errors.New("the stream has no leader")
	}
	return c.Leader, nil
}

// layWires lays a wire between every two nodes if the kind has wires.
func (h *history) layWires() error {
	if !h.kind.Wires {
		return nil
	}
	for i := range h.nodes {
		for j, to := range h.nodes {
			if i == j {
				continue
			}
			w, err := machine.LayWire(fmt.Sprintf("n%d-n%d", i+1, j+1), to.cluster)
			if err != nil {
				return err
			}
			h.addWire(w)
			h.routes[[2]int{i, j}] = w
		}
	}
	return nil
}

// route returns the wire from one node to another, nil if there is none.
func (h *history) route(from, to int) *machine.Wire { return h.routes[[2]int{from, to}] }

func (h *history) addWire(w *machine.Wire) {
	h.wires = append(h.wires, w)
	h.closers = append(h.closers, w.Remove)
}

// serverURLs returns the addresses of the nodes for one instance.
func (h *history) serverURLs(instance string) (string, error) {
	if !h.kind.Wires {
		return h.urls(), nil
	}
	all := make([]string, len(h.nodes))
	for i, n := range h.nodes {
		w, err := machine.LayWire(fmt.Sprintf("%s-n%d", instance, i+1), n.client)
		if err != nil {
			return "", err
		}
		h.addWire(w)
		all[i] = fmt.Sprintf("nats://127.0.0.1:%d", w.Port())
	}
	return strings.Join(all, ","), nil
}

// mountDisk mounts the disk of the first node if the kind has one.
func (h *history) mountDisk(context.Context) error {
	if !h.kind.Disk {
		return nil
	}
	disk, err := machine.MountDisk(filepath.Join(h.dir, "disk"))
	if err != nil {
		return err
	}
	h.disk = disk
	h.closers = append(h.closers, func() { h.failed(disk.Unmount()) })
	return nil
}

// diskFull fills the disk of the first node for a while, and restarts the node afterwards: a
// server that found its disk full does not write again by itself.
func diskFull(ctx context.Context, o *operator) {
	d := o.between(2*time.Second, 6*time.Second)
	o.h.note("the disk of n1 is full for %s", d.Round(time.Millisecond))
	o.h.failed(o.h.disk.Fill())
	backoff.Sleep(ctx, d)
	o.h.failed(o.h.disk.Drain())
	o.h.note("the disk of n1 has room again")
	o.restart(ctx, o.h.nodes[0], false, 0)
	o.whole(ctx)
}
