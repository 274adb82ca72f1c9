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
)

// node is one NATS server of the cluster.
type node struct {
	*process
	client, cluster int // ports
	store           string
}

func (n *node) url() string { return fmt.Sprintf("nats://127.0.0.1:%d", n.client) }

// nodeConfig has an account of the system, so that the operator may move the leader
// of the meta group, and one for everybody else, who needs no user.
const nodeConfig = `
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
		n := &node{store: filepath.Join(h.dir, fmt.Sprintf("store-%d", i+1))}
		var err error
		if n.client, err = h.ports.take(); err == nil {
			n.cluster, err = h.ports.take()
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
		name := fmt.Sprintf("n%d", i+1)
		store, size := n.store, "16GB"
		if i == 0 && h.disk != nil {
			store, size = h.disk.path, "1GB"
		}
		var routes []string
		advertise := ""
		for j, other := range h.nodes {
			port := other.cluster
			if w := h.route(i, j); w != nil {
				port = w.port()
			}
			if i != j {
				routes = append(routes, fmt.Sprintf("\"nats://127.0.0.1:%d\"", port))
			}
		}
		if h.kind.Wires {
			// What the servers tell each other of their addresses would lead around the wires.
			advertise = "  advertise: \"127.0.0.1:1\"\n"
		}
		config := fmt.Sprintf(nodeConfig, name, n.client, store, size, n.cluster, advertise, strings.Join(routes, ", "))
		file := filepath.Join(h.dir, name+".conf")
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			return err
		}
		var err error
		if n.process, err = h.process(name, h.config.NATSServer, "-c", file); err != nil {
			return err
		}
		if err := n.start(); err != nil {
			return err
		}
	}
	return h.awaitCluster(ctx)
}

// awaitCluster waits until JetStream answers with all servers in it.
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

// urls are the addresses of all nodes, without any wire that may be cut.
func (h *history) urls() string {
	all := make([]string, len(h.nodes))
	for i, n := range h.nodes {
		all[i] = n.url()
	}
	return strings.Join(all, ",")
}

// connect opens a connection that outlives whatever happens to the nodes.
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

// await waits until done is true, and no longer than bound.
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

// pause waits for d, less when ctx ends; it reports whether it waited.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
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
