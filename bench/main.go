package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"

	"github.com/rebound-mq/rebound/bench/compare"
)

// measurement is one measurement of bench.
type measurement struct {
	name, about string
	run         func(ctx context.Context, r *rig) error
}

func measurements(operations, waiting, keys, burst int) []measurement {
	return []measurement{
		{"lateness", "how late 10,000 operations with delays from 10 ms to 5 s come back", func(ctx context.Context, r *rig) error { return lateness(ctx, r, 10_000) }},
		{"throughput", "how many operations a second go through the whole path", func(ctx context.Context, r *rig) error { return throughput(ctx, r, 100_000) }},
		{"flood", "how long another service waits beside a burst of submissions of one service", func(ctx context.Context, r *rig) error { return flood(ctx, r, burst) }},
		{"replay", "how many dead letters a second are replayed", func(ctx context.Context, r *rig) error { return replay(ctx, r, 100_000) }},
		{"held", "what held operations cost while their gate is shut", func(ctx context.Context, r *rig) error { return held(ctx, r, waiting) }},
		{"backlog", "how a backlog is let out to a healed target that refuses what is beyond 500 a second", func(ctx context.Context, r *rig) error { return backlog(ctx, r, waiting, 500) }},
		{"keys", "how many keys of 3 operations each are worked off, and what they leave behind", func(ctx context.Context, r *rig) error { return manyKeys(ctx, r, keys) }},
		{"memory", "the service's resident memory with and without parked operations", func(ctx context.Context, r *rig) error { return memory(ctx, r, operations) }},
	}
}

// commands are what this program does besides its measurements.
var commands = map[string]func(arguments []string) error{
	compare.ChildCommand: serveChild,
	"compare":            runCompare,
	"check":              runCheck,
}

func main() {
	if len(os.Args) > 1 {
		if command, ok := commands[os.Args[1]]; ok {
			if err := command(os.Args[2:]); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			return
		}
	}
	binary := flag.String("rebound", "../bin/rebound", "the program to measure")
	operations := flag.Int("parked", 1_000_000, "how many operations the memory measurement parks")
	waiting := flag.Int("backlog", 100_000, "how many operations the measurements held and backlog hold")
	keys := flag.Int("keys", 20_000, "how many keys the measurement keys has")
	burst := flag.Int("burst", 200_000, "how many operations of one service the measurement flood submits at once")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "bench [flags] [measurement ...]")
		flag.PrintDefaults()
		for _, m := range measurements(0, 0, 0, 0) {
			fmt.Fprintf(flag.CommandLine.Output(), "  %-10s %s\n", m.name, m.about)
		}
	}
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	for _, m := range measurements(*operations, *waiting, *keys, *burst) {
		if flag.NArg() > 0 && !strings.Contains(" "+strings.Join(flag.Args(), " ")+" ", " "+m.name+" ") {
			continue
		}
		fmt.Printf("%s: %s\n", m.name, m.about)
		if err := measure(ctx, *binary, m); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", m.name, err)
			os.Exit(1)
		}
	}
}

// measure runs one measurement on fresh processes.
func measure(ctx context.Context, binary string, m measurement) error {
	r, err := newRig(ctx, binary)
	if err != nil {
		return err
	}
	defer r.close()
	return m.run(ctx, r)
}
