package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/rebound-mq/rebound/bench/compare"
	"github.com/rebound-mq/rebound/bench/compare/natspath"
)

const (
	// recordedFile has the figures that runCheck compares with.
	recordedFile = "recorded.json"
	// tolerance is by how much of what was recorded a figure may be worse.
	tolerance = 0.2
	// attempts is how often a figure has to be worse before the check fails.
	attempts = 3
)

// runCheck compares Rebound with the bare path and fails if it became slower than recorded.
func runCheck(arguments []string) error {
	flags := flag.NewFlagSet("check", flag.ContinueOnError)
	binary := flags.String("rebound", "../bin/rebound", "the program to measure")
	record := flags.Bool("record", false, "record what is found instead of comparing with it")
	rounds := flags.Int("rounds", 11, "loads that each of the two gets in one attempt")
	operations := flags.Int("operations", 3000, "operations of a load")
	if err := flags.Parse(arguments); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	interrupted, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(interrupted, 10*time.Minute)
	defer cancel()
	watch := compare.Watch{
		Contender: natspath.Steady(*binary), Baseline: natspath.Bare(),
		Load: compare.Load{Operations: *operations, Size: 512}, Rounds: *rounds, Progress: os.Stdout,
	}
	if reason := watch.Contender.Missing(); reason != "" {
		return errors.New(reason)
	}
	if *record {
		found, err := watch.Run(ctx)
		if err != nil {
			return err
		}
		return found.Record(recordedFile)
	}
	recorded, err := compare.ReadWatched(recordedFile)
	if err != nil {
		return fmt.Errorf("reading what was recorded: %w", err)
	}
	return notWorse(ctx, watch, recorded)
}

// notWorse compares what is found with what was recorded. It fails only if that is worse time after
// time, because a machine that is busy with something else can spoil one measurement, but hardly
// three in a row.
func notWorse(ctx context.Context, watch compare.Watch, recorded compare.Watched) (worse error) {
	for range attempts {
		found, err := watch.Run(ctx)
		if err != nil {
			return err
		}
		fmt.Printf("ratio %.3f, recorded %.3f; %.0f allocations, recorded %.0f\n", found.Ratio, recorded.Ratio, found.Allocations, recorded.Allocations)
		if worse = found.Against(recorded, tolerance); worse == nil {
			return nil
		}
		fmt.Println(worse)
	}
	return worse
}
