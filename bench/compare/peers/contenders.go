package peers

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime/debug"

	"github.com/rebound-mq/rebound/bench/compare"
)

// Roles are those of this program's processes that the contenders need.
func Roles() map[string]compare.Role {
	return map[string]compare.Role{roleAsynq: role(openAsynq), roleRiver: role(openRiver)}
}

// Asynq returns asynq with five numbers of workers, and once with operations that failed elsewhere.
func Asynq() []compare.Contender {
	about := compare.About{
		Version: "asynq " + version("github.com/hibiken/asynq") + " with Redis",
		Path: "enqueued, executed by asynq and failed, put aside for its delay, forwarded, executed; " +
			"a submitter and the workers in one process",
		Settings: fmt.Sprintf("appendonly yes, appendfsync everysec; %d submitters; due tasks are forwarded every %s, every %s for the lateness",
			asynqSubmitters, asynqForward, asynqForwardPaced),
		Keeps: "at least once; a crash of the machine loses up to a second",
		Lacks: "outcomes as events, a breaker, budgets, policies; delays are whole seconds, cut off, so that tasks come up to a second early",
	}
	return variants(peer{
		name: "asynq", role: roleAsynq, about: about, workers: []int{10, 50, 100, 200, 500}, server: startRedis, missing: missingRedis,
		handover: "enqueued with its delay after it failed elsewhere, forwarded, executed: the first execution is the retry",
	})
}

// River returns River with five numbers of workers, and once with operations that failed elsewhere.
func River() []compare.Contender {
	about := compare.About{
		Version: "River " + version("github.com/riverqueue/river") + " with PostgreSQL",
		Path: "inserted in batches, executed by River and failed, stored as available with its time, fetched, executed; " +
			"a submitter and the workers in one process",
		Settings: fmt.Sprintf("PostgreSQL's defaults (synchronous_commit on); batches of %d; River fetches every %s, every %s for the lateness",
			riverBatch, riverFetch, riverFetchPaced),
		Keeps: "at least once; every commit is on disk",
		Lacks: "outcomes as durable events, a breaker, budgets, policies",
	}
	return variants(peer{
		name: "River", role: roleRiver, about: about, workers: []int{100, 500, 1000, 2000, 5000}, server: startPostgres, missing: missingPostgres,
		handover: "inserted with its time after it failed elsewhere, scheduled every 5 s, fetched, executed: the first execution is the retry",
	})
}

// peer is what the contenders of one project have in common.
type peer struct {
	name, role string
	about      compare.About
	workers    []int
	server     func(ctx context.Context, dir string) (p *compare.Program, address string, err error)
	missing    func() string
	// handover is the path of an operation that failed elsewhere.
	handover string
}

// variants returns the contenders of a peer.
func variants(p peer) []compare.Contender {
	var all []compare.Contender
	for _, n := range p.workers {
		all = append(all, compare.Contender{
			Name: fmt.Sprintf("%s %d workers", p.name, n), Of: p.name, About: p.about, Missing: p.missing,
			Start: p.start(setup{Workers: n, Fails: true}),
		})
	}
	about := p.about
	about.Path = p.handover
	return append(all, compare.Contender{
		Name: p.name + " handed over", About: about, Missing: p.missing,
		Start: p.start(setup{Workers: p.workers[3]}),
	})
}

// start returns how a contender is started.
func (p peer) start(s setup) func(ctx context.Context, dir string) (compare.Instance, error) {
	return func(ctx context.Context, dir string) (compare.Instance, error) {
		server, address, err := p.server(ctx, dir)
		if err != nil {
			return nil, err
		}
		s.Address = address
		child, err := compare.StartChild(ctx, p.role, s, nil)
		if err != nil {
			return nil, errors.Join(err, server.Stop())
		}
		return instance{server, child}, nil
	}
}

// instance is a peer that runs.
type instance struct {
	server *compare.Program
	worker *compare.Child
}

func (i instance) Processes() []compare.Process {
	return []compare.Process{
		{Role: compare.RoleService, PID: i.worker.PID()},
		{Role: compare.RoleServer, PID: i.server.PID(), Descendants: true},
	}
}

func (i instance) Mallocs(context.Context) (uint64, error) { return i.worker.Mallocs() }

func (i instance) Run(_ context.Context, load compare.Load) (result compare.Result, err error) {
	err = i.worker.Call(callRun, load, &result)
	return result, err
}

func (i instance) Park(_ context.Context, n, size int) error {
	return i.worker.Call(callPark, parking{Operations: n, Size: size}, nil)
}

func (i instance) Stop() error { return errors.Join(i.worker.Stop(), i.server.Stop()) }

func missingRedis() string {
	if _, err := exec.LookPath("redis-server"); err != nil {
		return "redis-server is missing; 'make deps' installs it on Debian"
	}
	return ""
}

func missingPostgres() string {
	_, initErr := postgresProgram("initdb")
	_, err := postgresProgram("postgres")
	if errors.Join(initErr, err) != nil {
		return "PostgreSQL is missing; 'make bench-deps' installs it on Debian"
	}
	return ""
}

// version returns the version of a module that this program is built with.
func version(module string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, m := range info.Deps {
		if m.Path == module {
			return m.Version
		}
	}
	return ""
}
