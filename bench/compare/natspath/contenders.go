package natspath

import (
	"context"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/rebound-mq/rebound/bench/compare"
)

// Roles are those of this program's processes that the contenders need.
func Roles() map[string]compare.Role {
	return map[string]compare.Role{roleServer: serveNATS, roleBare: serveBare, roleNak: serveNak, roleSchedules: serveSchedules}
}

// Names of the contenders that others are compared with.
const (
	BareName        = "bare path"
	ClusterBareName = "cluster bare path"
)

// Bare is the contender that does the JetStream writes of Rebound and no more.
func Bare() compare.Contender {
	return compare.Contender{
		Name: BareName,
		About: compare.About{
			Version:  "nats-server " + server.VERSION,
			Path:     "the JetStream writes of Rebound, of the same size: submission, operation as due or parked, retryScheduled, outcome, two acks, and the request to the target",
			Settings: "file storage, sync_interval 2m",
			Keeps:    "nothing: it decides nothing, and a crash at the wrong moment repeats or forgets",
			Lacks:    "everything but the writes",
		},
		Start: startBare,
	}
}

func startBare(ctx context.Context, dir string) (compare.Instance, error) {
	i := &instance{submit: submitToRebound}
	s, url, err := StartServer(ctx, dir)
	if err != nil {
		return nil, err
	}
	i.runs(compare.RoleServer, s)
	return i.started(i.startService(ctx, roleBare, serviceArguments{URL: url}, func() error { return i.hearOutcomes() }))
}

// startService connects the harness and starts a service of this program on the server.
func (i *instance) startService(ctx context.Context, role string, a serviceArguments, listen func() error) (err error) {
	if i.harness, err = connect(a.URL); err != nil {
		return err
	}
	c, err := compare.StartChild(ctx, role, a, nil)
	if err != nil {
		return err
	}
	i.runs(compare.RoleService, c)
	i.mallocs = func(context.Context) (uint64, error) { return c.Mallocs() }
	if i.park == nil {
		i.park = i.parkInRebound
	}
	if listen == nil {
		return nil
	}
	return listen()
}
