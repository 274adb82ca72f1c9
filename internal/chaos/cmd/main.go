//go:build linux

// The chaos command runs histories of real processes under faults, and proves that nothing is
// lost.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/rebound-mq/rebound/internal/chaos"
	"github.com/rebound-mq/rebound/internal/chaos/machine"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		stop()
		os.Exit(1)
	}
}

type options struct {
	config    chaos.Config
	kind      string
	seed      uint64
	histories int
	parallel  int
	seeds     string
	list      bool
}

func parse(args []string) (*options, error) {
	o := new(options)
	f := flag.NewFlagSet("chaos", flag.ContinueOnError)
	f.StringVar(&o.kind, "kind", "all", "kinds of histories, separated by commas; leaders is all that begin with leaders-")
	f.Uint64Var(&o.seed, "seed", 0, "seed of the first history, the next ones follow; 0 draws one and begins with the kept seeds")
	f.IntVar(&o.histories, "histories", 0, "how many histories are run; 0 is one of each kind")
	f.IntVar(&o.parallel, "parallel", 1, "how many of them run at once")
	seconds := f.Int("seconds", 30, "how long faults and submissions go on in a history")
	drain := f.Int("drain", 60, "within how many seconds of the last fault all must have drained, what the policy adds apart")
	f.IntVar(&o.config.Rate, "rate", 0, "submissions a second; 0 is the kind's own")
	f.StringVar(&o.config.Rebound, "rebound", "", "the rebound program; built from this module when empty")
	f.StringVar(&o.config.Clocked, "clocked", "", "the rebound program built so that its clock can be set, for the kind clock; built from this module when empty")
	f.StringVar(&o.config.NATSServer, "nats-server", "", "the nats-server program; built from this module's version when empty")
	f.StringVar(&o.config.RedisServer, "redis-server", "redis-server", "the redis-server program")
	f.StringVar(&o.config.Keep, "keep", "", "where records and logs of histories with violations are kept")
	f.StringVar(&o.seeds, "seeds", "", "file of seeds that failed once; new ones are added to it")
	f.BoolVar(&o.list, "list", false, "list the kinds and end")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("what is %q?", f.Arg(0))
	}
	o.config.Lasting, o.config.Drain = time.Duration(*seconds)*time.Second, time.Duration(*drain)*time.Second
	if *seconds < 1 || o.histories < 0 || o.parallel < 1 {
		return nil, errors.New("seconds and parallel are at least 1, and histories no less than 0")
	}
	return o, nil
}

func run(ctx context.Context, args []string, out io.Writer) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	kinds, err := chaos.Kinds(o.kind)
	if err != nil {
		return err
	}
	if o.list {
		return list(out, kinds)
	}
	dir, err := os.MkdirTemp("", "rebound-chaos-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	o.config.Dir = dir
	if err := o.build(ctx, dir, kinds); err != nil {
		return err
	}
	jobs, err := o.plan(kinds)
	if err != nil {
		return err
	}
	s := newSummary(out, o)
	queue := make(chan job)
	var runners sync.WaitGroup
	for range o.parallel {
		runners.Go(func() {
			for j := range queue {
				report, err := chaos.Run(ctx, o.config, j.kind, j.seed)
				s.add(ctx, j, report, err)
			}
		})
	}
	for _, j := range jobs {
		select {
		case queue <- j:
		case <-ctx.Done():
		}
	}
	close(queue)
	runners.Wait()
	return errors.Join(s.end(), ctx.Err())
}

// build builds the programs that were not given.
func (o *options) build(ctx context.Context, dir string, kinds []*chaos.Kind) error {
	for _, p := range []struct {
		path  *string
		name  string
		build func(output string) error
		need  bool
	}{
		{&o.config.Rebound, "rebound", func(output string) error { return machine.Build(ctx, output, machine.Program) }, true},
		{&o.config.NATSServer, "nats-server", func(output string) error { return machine.Build(ctx, output, machine.NATSServer) }, true},
		{&o.config.Clocked, "rebound-clocked", func(output string) error { return machine.BuildClocked(ctx, dir, output, machine.Program) }, clocked(kinds)},
	} {
		var err error
		switch {
		case !p.need:
		case *p.path != "":
			*p.path, err = filepath.Abs(*p.path)
		default:
			*p.path = filepath.Join(dir, p.name)
			err = p.build(*p.path)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func clocked(kinds []*chaos.Kind) bool {
	return slices.ContainsFunc(kinds, func(k *chaos.Kind) bool { return k.Clock })
}
