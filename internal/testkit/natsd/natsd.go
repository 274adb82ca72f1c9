// Package natsd is the NATS server of a test as a separate process, outside the race detector
// that slows the test down. [Run] is the program with which the test communicates: it reads a
// [Config] and writes a [State] once the server is ready and then for each further line, until
// its input ends.
package natsd

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"

	"github.com/rebound-mq/rebound/internal/embedded"
)

// Config describes what to start: one server, or a node of a cluster.
type Config struct {
	Single *embedded.Options `json:",omitempty"`
	Node   *Node             `json:",omitempty"`
}

// Node is one server of a cluster.
type Node struct {
	Name     string
	StoreDir string
	// Port is for clients.
	Port int
	// ClusterPort is for the other nodes.
	ClusterPort int
	// Routes are the URLs of all nodes of the cluster.
	Routes []string
}

// State is the state of a server.
type State struct {
	// Error is why the server is not running; all else is then empty.
	Error string `json:",omitempty"`
	// Leads reports whether the node leads JetStream's meta group.
	Leads bool
	// Current reports whether the node follows the leader of the meta group.
	Current bool
	// Peers is the number of nodes that a leader knows, including itself.
	Peers int
}

// startTimeout bounds the start of a server on a busy machine.
const startTimeout = 60 * time.Second

// Run runs the server described by the first line of input until input ends. It writes states to
// answers and the server's log to log.
func Run(input io.Reader, answers, log io.Writer) error {
	lines := bufio.NewScanner(input)
	lines.Buffer(nil, 1<<20)
	if !lines.Scan() {
		return errors.Join(errors.New("no configuration came"), lines.Err())
	}
	var c Config
	if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
		return fmt.Errorf("reading the configuration: %w", err)
	}
	encoder := json.NewEncoder(answers)
	state, stop, err := start(c, slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		return errors.Join(err, encoder.Encode(State{Error: err.Error()}))
	}
	defer stop()
	if err := encoder.Encode(state()); err != nil {
		return err
	}
	for lines.Scan() {
		if err := encoder.Encode(state()); err != nil {
			return err
		}
	}
	return lines.Err()
}

func start(c Config, log *slog.Logger) (state func() State, stop func(), err error) {
	switch {
	case c.Single != nil:
		return startSingle(*c.Single, log)
	case c.Node != nil:
		return startNode(*c.Node)
	default:
		return nil, nil, errors.New("the configuration has no server")
	}
}

func startSingle(o embedded.Options, log *slog.Logger) (state func() State, stop func(), err error) {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	o.Logger = log
	s, err := embedded.Start(ctx, o)
	if err != nil {
		return nil, nil, err
	}
	return func() State { return State{} }, s.Shutdown, nil
}

func startNode(n Node) (state func() State, stop func(), err error) {
	routes := make([]*url.URL, len(n.Routes))
	for i, r := range n.Routes {
		if routes[i], err = url.Parse(r); err != nil {
			return nil, nil, fmt.Errorf("route %d: %w", i, err)
		}
	}
	s, err := natsd.NewServer(&natsd.Options{
		ServerName:             n.Name,
		Host:                   "127.0.0.1",
		Port:                   n.Port,
		JetStream:              true,
		StoreDir:               n.StoreDir,
		Routes:                 routes,
		Cluster:                natsd.ClusterOpts{Name: "testkit", Host: "127.0.0.1", Port: n.ClusterPort},
		DisableJetStreamBanner: true,
		NoSigs:                 true,
		NoLog:                  true,
	})
	if err != nil {
		return nil, nil, err
	}
	stop = func() {
		s.Shutdown()
		s.WaitForShutdown()
	}
	go s.Start()
	if !s.ReadyForConnections(startTimeout) {
		stop()
		return nil, nil, fmt.Errorf("%s accepts no connections", n.Name)
	}
	state = func() State {
		st := State{Leads: s.JetStreamIsLeader(), Current: s.JetStreamIsCurrent()}
		if st.Leads {
			st.Peers = len(s.JetStreamClusterPeers())
		}
		return st
	}
	return state, stop, nil
}
