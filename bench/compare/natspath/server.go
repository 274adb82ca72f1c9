package natspath

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/rebound-mq/rebound/bench/compare"
)

// roleServer is a NATS server in a process of its own.
const roleServer = "nats-server"

// serverArguments configure a server. A server alone needs only StoreDir.
type serverArguments struct {
	StoreDir string
	// Name, ClusterPort and Routes make it part of a cluster.
	Name        string   `json:",omitempty"`
	ClusterPort int      `json:",omitempty"`
	Routes      []string `json:",omitempty"`
}

// serveNATS runs a server on a free port of the loopback and returns its URL.
func serveNATS(_ context.Context, encoded json.RawMessage) (any, compare.Answer, error) {
	var a serverArguments
	if err := json.Unmarshal(encoded, &a); err != nil {
		return nil, nil, err
	}
	o := &server.Options{
		Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: a.StoreDir, NoSigs: true, NoLog: true,
		ServerName: a.Name,
	}
	if a.ClusterPort > 0 {
		o.Cluster = server.ClusterOpts{Name: "bench", Host: "127.0.0.1", Port: a.ClusterPort}
		for _, route := range a.Routes {
			u, err := url.Parse(route)
			if err != nil {
				return nil, nil, err
			}
			o.Routes = append(o.Routes, u)
		}
	}
	s, err := server.NewServer(o)
	if err != nil {
		return nil, nil, err
	}
	s.Start()
	if !s.ReadyForConnections(30 * time.Second) {
		return nil, nil, errors.New("the NATS server did not start")
	}
	return s.ClientURL(), nil, nil
}

// StartServer starts a server alone that keeps its files below dir.
func StartServer(ctx context.Context, dir string) (c *compare.Child, url string, err error) {
	c, err = compare.StartChild(ctx, roleServer, serverArguments{StoreDir: filepath.Join(dir, "nats")}, &url)
	if err != nil {
		return nil, "", fmt.Errorf("starting the NATS server: %w", err)
	}
	return c, url, nil
}
