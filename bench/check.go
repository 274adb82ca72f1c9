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
)

// runCheck compares Rebound with the bare path and fails if it became slower than recorded.
func runCheck(arguments []string) error {
	flags := flag.NewFlagSet("check", flag.ContinueOnError)
	binary := flags.String("rebound", "../bin/rebound", "the program to measure")
	record := flags.Bool("record", false, "record what is found instead of comparing with it")
	rounds := flags.Int("rounds", 11, "loads that each of the two gets")
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
		Contender: natspath.Rebound(*binary)[0], Baseline: natspath.Bare(),
		Load: compare.Load{Operations: *operations, Size: 512}, Rounds: *rounds, Progress: os.Stdout,
	}
	if reason := watch.Contender.Missing(); reason != "" {
		return errors.New(reason)
	}
	found, err := watch.Run(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("ratio %.3f, %.0f allocations\n", found.Ratio, found.Allocations)
	if *record {
		return found.Record(recordedFile)
	}
	recorded, err := compare.ReadWatched(recordedFile)
	if err != nil {
		return fmt.Errorf("reading what was recorded: %w", err)
	}
	return found.Against(recorded, tolerance)
}
