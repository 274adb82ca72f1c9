package peers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rebound-mq/rebound/bench/compare"
)

// TestMain runs this program as a worker when a contender starts it as one.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == compare.ChildCommand {
		if err := compare.ServeChild(context.Background(), Roles(), os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func TestRecord_OperationsFailOnceAndEndOnce(t *testing.T) {
	t.Parallel()
	start := time.Now()
	r := newRecord(compare.Load{Operations: 2, Delay: time.Second, Rate: 1}, true, start)
	for i := range 2 {
		if err := r.execute(i, 0, start); !errors.Is(err, errPlanned) {
			t.Fatalf("the first execution of %d: %v", i, err)
		}
		if got := r.delay(i, start.Add(time.Minute)); got != time.Second {
			t.Fatalf("operation %d is delayed by %s", i, got)
		}
	}
	for i, late := range []time.Duration{3 * time.Millisecond, -4 * time.Millisecond} {
		select {
		case <-r.done:
			t.Fatal("done before the last end")
		default:
		}
		if err := r.execute(i, 1, start.Add(61*time.Second+late)); err != nil {
			t.Fatal(err)
		}
	}
	<-r.done
	if err := r.execute(1, 1, start.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	got := r.result(start.Add(time.Second))
	if got.Repeats != 1 || got.Took != 60*time.Second-4*time.Millisecond {
		t.Errorf("%d repeats, took %s", got.Repeats, got.Took)
	}
	if fmt.Sprint(got.Late) != "[3ms -4ms]" {
		t.Errorf("late: %s", got.Late)
	}
}

func TestRecord_WhatIsHandedOverSucceedsAtOnce(t *testing.T) {
	t.Parallel()
	start := time.Now()
	r := newRecord(compare.Load{Operations: 1}, false, start)
	if err := r.execute(0, 0, start.Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	<-r.done
	if got := r.result(start); got.Took != time.Second || got.Late != nil {
		t.Errorf("took %s, late %s", got.Took, got.Late)
	}
}

func TestContenders_HaveDistinctNamesWithoutCommas(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for _, c := range append(Asynq(), River()...) {
		if seen[c.Name] || strings.Contains(c.Name, ",") {
			t.Errorf("%q cannot be chosen by its name", c.Name)
		}
		seen[c.Name] = true
	}
}

func TestAsynq_EveryOperationComesBackAndEnds(t *testing.T) {
	t.Parallel()
	if missing := missingRedis(); missing != "" {
		if os.Getenv("CI") != "" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	for _, c := range []compare.Contender{Asynq()[1], Asynq()[5]} {
		bringBack(t, c)
	}
}

func TestRiver_EveryOperationComesBackAndEnds(t *testing.T) {
	t.Parallel()
	if missing := missingPostgres(); missing != "" {
		t.Skip(missing) // PostgreSQL is not among what the tests need
	}
	bringBack(t, River()[1])
}

// bringBack runs loads of 200 operations on a contender, and parks 200.
func bringBack(t *testing.T, c compare.Contender) {
	t.Helper()
	// A server with an account of its own cannot reach t.TempDir.
	dir, err := os.MkdirTemp("", "peers-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	instance, err := c.Start(t.Context(), dir)
	if err != nil {
		t.Fatalf("%s: %v", c.Name, err)
	}
	stopped := false
	defer func() {
		if !stopped {
			_ = instance.Stop() // the test has failed already
		}
	}()
	paced := compare.Load{Operations: 200, Size: 512, Rate: 1000, Delay: 50 * time.Millisecond}
	for _, load := range []compare.Load{{Operations: 200, Size: 512}, paced} {
		result, err := instance.Run(t.Context(), load)
		if err != nil {
			t.Fatalf("%s: %v", c.Name, err)
		}
		if result.Took <= 0 || result.Repeats != 0 {
			t.Errorf("%s took %s with %d repeats", c.Name, result.Took, result.Repeats)
		}
		if load.Rate > 0 && len(result.Late) != load.Operations {
			t.Errorf("%s came back late %d times", c.Name, len(result.Late))
		}
	}
	if err := instance.Park(t.Context(), 200, 512); err != nil {
		t.Errorf("%s parks: %v", c.Name, err)
	}
	if n, err := instance.Mallocs(t.Context()); err != nil || n == 0 {
		t.Errorf("%s has allocated %d objects, %v", c.Name, n, err)
	}
	stopped = true
	if err := instance.Stop(); err != nil {
		t.Errorf("%s stops: %v", c.Name, err)
	}
}

func TestAwaitReady_AServerThatEndsIsReportedWithItsLog(t *testing.T) {
	t.Parallel()
	log := filepath.Join(t.TempDir(), "log")
	p, err := compare.RunProgram(exec.Command("sh", "-c", "echo the disk is full >"+log))
	if err != nil {
		t.Fatal(err)
	}
	err = awaitReady(t.Context(), p, log, func(context.Context) error { return errors.New("refused") })
	if err == nil || !strings.Contains(err.Error(), "the disk is full") {
		t.Errorf("got %v", err)
	}
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
}
