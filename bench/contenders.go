package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rebound-mq/rebound/bench/compare"
	"github.com/rebound-mq/rebound/bench/compare/natspath"
	"github.com/rebound-mq/rebound/bench/compare/peers"
)

// contenders returns all that can be compared, Rebound being the program binary.
func contenders(binary string) []compare.Contender {
	onNATS := append(natspath.Rebound(binary), natspath.Bare(), natspath.Nak(), natspath.Schedules())
	return slices.Concat(onNATS, peers.Asynq(), peers.River())
}

// roles returns what child processes of this program can be.
func roles() map[string]compare.Role {
	all := make(map[string]compare.Role)
	maps.Copy(all, natspath.Roles())
	maps.Copy(all, peers.Roles())
	return all
}

// serveChild runs this program as a part of a contender. An interrupt is for its parent, which ends it.
func serveChild(arguments []string) error {
	signal.Ignore(os.Interrupt)
	return compare.ServeChild(context.Background(), roles(), arguments)
}

// comparison are the flags of the command compare.
type comparison struct {
	binary, out, serve                string
	rounds, operations, size          int
	rate                              float64
	contenders, measurements, waiting string
	cluster                           bool
}

// runCompare measures contenders side by side.
func runCompare(arguments []string) error {
	var c comparison
	flags := flag.NewFlagSet("compare", flag.ContinueOnError)
	flags.StringVar(&c.binary, "rebound", "../bin/rebound", "the program to measure")
	flags.IntVar(&c.rounds, "rounds", 5, "how many times each contender is measured")
	flags.IntVar(&c.operations, "operations", 40_000, "operations of one load")
	flags.IntVar(&c.size, "size", 512, "bytes of each payload, at least 16")
	flags.Float64Var(&c.rate, "rate", 1000, "operations a second for the lateness, for 15 seconds")
	flags.StringVar(&c.waiting, "waiting", "100000", "operations that wait while the memory is measured; several numbers are separated by commas")
	flags.StringVar(&c.contenders, "contenders", "", "which contenders, separated by commas; all without")
	flags.StringVar(&c.measurements, "measure", "", "which measurements, separated by commas; all without")
	flags.StringVar(&c.out, "out", "", "directory for compare.md and its charts, or compare-cluster.md and its own, such as ../docs; none without")
	flags.BoolVar(&c.cluster, "cluster", false, "measure on a cluster of three servers with R3 streams, and without memory")
	flags.StringVar(&c.serve, "serve", "", "further flags of the program on a cluster, separated by spaces, such as \"--max-in-flight 2048\"")
	if err := flags.Parse(arguments); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	plan, err := c.plan()
	if err != nil {
		return err
	}
	report, err := plan.Run(ctx)
	err = errors.Join(err, report.Write(os.Stdout))
	if err == nil && c.out != "" {
		return report.Document(c.out, "bench compare "+strings.Join(arguments, " "))
	}
	return err
}

func (c comparison) plan() (p compare.Plan, err error) {
	p = compare.Plan{Name: "compare", Baseline: natspath.BareName, Rounds: c.rounds, Progress: os.Stderr}
	known := contenders(c.binary)
	if c.cluster {
		known = natspath.Cluster(c.binary, strings.Fields(c.serve))
		p.Name, p.Baseline = "compare-cluster", natspath.ClusterBareName
	}
	p.Contenders, err = chosen("contender", known, c.contenders, func(c compare.Contender) string { return c.Name })
	if err != nil {
		return p, err
	}
	all, err := c.all()
	if err != nil {
		return p, err
	}
	p.Measurements, err = chosen("measurement", all, c.measurements, func(m compare.Measurement) string { return m.Name })
	return p, err
}

// all returns the measurements that can be taken.
func (c comparison) all() ([]compare.Measurement, error) {
	load := compare.Load{Operations: c.operations, Size: c.size}
	parked := load
	parked.Delay = 600 * time.Millisecond
	paced := load
	paced.Operations, paced.Rate = int(15*c.rate), c.rate
	paced.Delay, paced.Spread = 100*time.Millisecond, 1900*time.Millisecond
	loads := []compare.Measurement{
		{Name: "throughput", About: "operations that fail once, come back at once and succeed", Load: load},
		{Name: "parked", About: "the same, coming back after 600 ms", Load: parked},
		{Name: "lateness", About: fmt.Sprintf("%.0f a second with delays from 0.1 to 2 s", c.rate), Load: paced},
	}
	if c.cluster {
		return loads, nil
	}
	for number := range strings.SplitSeq(c.waiting, ",") {
		n, err := strconv.Atoi(number)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("-waiting takes numbers of operations, not %q", number)
		}
		loads = append(loads, compare.Measurement{
			Name: "memory-" + number, About: fmt.Sprintf("resident memory with %d waiting for a day", n), Load: load, Waiting: n,
		})
	}
	return loads, nil
}

// chosen returns those of all whose names are given, separated by commas, or all if none is given.
func chosen[T any](kind string, all []T, names string, name func(T) string) ([]T, error) {
	if names == "" {
		return all, nil
	}
	var found []T
	for wanted := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(all, func(t T) bool { return name(t) == wanted })
		if i < 0 {
			known := make([]string, len(all))
			for i, t := range all {
				known[i] = name(t)
			}
			return nil, fmt.Errorf("there is no %s %q; there are: %s", kind, wanted, strings.Join(known, ", "))
		}
		found = append(found, all[i])
	}
	return found, nil
}
