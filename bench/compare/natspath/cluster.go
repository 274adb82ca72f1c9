package natspath

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/bench/compare"
)

// clusterSize is how many servers a cluster has, of which each stores each stream.
const clusterSize = 3

// Cluster returns the contenders on a cluster of three servers whose streams have three replicas:
// the bare path, one instance of Rebound, and two. Serve are further flags of the program.
func Cluster(binary string, serve []string) []compare.Contender {
	about := func(path string) compare.About {
		return compare.About{
			Version: "nats-server " + server.VERSION, Path: path, Settings: "three servers, R3 streams, file storage, sync_interval 2m",
			Keeps: "as with one server, and through the loss of one", Lacks: "",
		}
	}
	instances := func(name string, n int) compare.Contender {
		return compare.Contender{
			Name: name, About: about(fmt.Sprintf("as with one server, taken by %d of Rebound", n)),
			Missing: rebound{binary: binary}.missing,
			Start: func(ctx context.Context, dir string) (compare.Instance, error) {
				i := &instance{submit: submitToRebound}
				return i.started(i.startCluster(ctx, dir, binary, n, serve))
			},
		}
	}
	bare := compare.Contender{
		Name: ClusterBareName, About: about("as with one server"),
		Start: func(ctx context.Context, dir string) (compare.Instance, error) {
			i := &instance{submit: submitToRebound}
			urls, err := i.startServers(ctx, dir)
			if err != nil {
				return i.started(err)
			}
			a := serviceArguments{URL: strings.Join(urls, ","), Replicas: clusterSize}
			return i.started(i.startService(ctx, roleBare, a, func() error { return i.hearOutcomes() }))
		},
	}
	return []compare.Contender{bare, instances("cluster rebound one", 1), instances("cluster rebound two", 2)}
}

// startCluster starts the servers, n instances of Rebound and the harness.
func (i *instance) startCluster(ctx context.Context, dir, binary string, n int, serve []string) error {
	urls, err := i.startServers(ctx, dir)
	if err != nil {
		return err
	}
	for range n {
		flags := append([]string{"--nats", strings.Join(urls, ",")}, serve...)
		if err := i.serve(ctx, binary, dir, compare.RoleService, flags); err != nil {
			return err
		}
	}
	return i.listen(ctx, strings.Join(urls, ","), false)
}

// startServers starts the cluster and returns the URLs of its servers once it takes streams.
func (i *instance) startServers(ctx context.Context, dir string) ([]string, error) {
	var routes []string
	var ports []int
	for range clusterSize {
		port, err := freePort(ctx)
		if err != nil {
			return nil, err
		}
		ports, routes = append(ports, port), append(routes, "nats://127.0.0.1:"+strconv.Itoa(port))
	}
	var urls []string
	for n, port := range ports {
		a := serverArguments{StoreDir: filepath.Join(dir, strconv.Itoa(n)), Name: "n" + strconv.Itoa(n), ClusterPort: port, Routes: routes}
		var url string
		s, err := compare.StartChild(ctx, roleServer, a, &url)
		if err != nil {
			return nil, err
		}
		i.runs(compare.RoleServer, s)
		urls = append(urls, url)
	}
	return urls, elected(ctx, urls[0])
}

// elected waits until the cluster has a leader that knows all servers. Only then a stream finds
// servers for its replicas.
func elected(ctx context.Context, url string) error {
	nc, err := nats.Connect(url)
	if err != nil {
		return err
	}
	defer nc.Close()
	const probe = `{"name":"PROBE","subjects":["probe"],"storage":"memory","num_replicas":3,"retention":"limits"}`
	return await(ctx, time.Minute, func() (bool, error) {
		var answer struct {
			Error *struct{} `json:"error"`
		}
		// Until there is a leader nobody answers, or with an error.
		if m, err := nc.Request("$JS.API.STREAM.CREATE.PROBE", []byte(probe), 2*time.Second); err == nil {
			if err := json.Unmarshal(m.Data, &answer); err != nil || answer.Error != nil {
				return false, err
			}
			_, err = nc.Request("$JS.API.STREAM.DELETE.PROBE", nil, 5*time.Second)
			return err == nil, err
		}
		return false, nil
	})
}
