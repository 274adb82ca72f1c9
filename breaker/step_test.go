package breaker

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// settings are used by most tests: 3 failures in a row, 10 s open, 2 probes, 2 successes.
func settings() Settings {
	return Settings{Threshold: 3, Timeout: 10 * time.Second, HalfOpenMaxRequests: 2, HalfOpenSuccesses: 2, ProbeLease: 5 * time.Second}
}

// drive steps a circuit through events and keeps the last effect.
type drive struct {
	t       *testing.T
	s       Settings
	c       Circuit
	now     time.Time
	effect  Effect
	changes []string
}

func (d *drive) do(e Event) {
	d.t.Helper()
	if e.Kind != Report && e.Kind != Return {
		e.Generation = d.c.Generation
	}
	d.c, d.effect = Step(d.c, e, d.now, d.s)
	if d.effect.Changed {
		d.changes = append(d.changes, fmt.Sprintf("%v>%v %s", d.effect.From, d.c.State, d.c.Cause))
	}
}

func (d *drive) results(results ...Result) {
	d.t.Helper()
	var t Tally
	for _, r := range results {
		t.Add(Attempt{Result: r, Took: time.Millisecond}, false)
	}
	d.do(Event{Kind: Report, Generation: d.c.Generation, Tally: t})
}

func (d *drive) acquire(id string) { d.t.Helper(); d.do(Event{Kind: Acquire, Probe: id}) }

func (d *drive) giveBack(id string, r Result) {
	d.t.Helper()
	d.do(Event{Kind: Return, Generation: d.c.Generation, Probe: id, Result: r})
}

func (d *drive) after(t time.Duration) { d.now = d.now.Add(t) }

func (d *drive) fail(n int) { d.t.Helper(); d.results(slices.Repeat([]Result{Failure}, n)...) }

// halfOpen brings a fresh circuit to half open, with probe "a" in flight.
func (d *drive) halfOpen() {
	d.t.Helper()
	d.fail(3)
	d.after(10 * time.Second)
	d.acquire("a")
	d.changes = nil
}

func TestStep_MovesBetweenTheStates(t *testing.T) {
	tests := []struct {
		name    string
		do      func(d *drive)
		state   State
		changes []string
		check   func(d *drive) string // the problem, empty for none
	}{
		{
			name: "successes keep it closed", do: func(d *drive) { d.results(Success, Success, Success) }, state: Closed,
			check: func(d *drive) string {
				return want("total requests", d.c.TotalRequests, 3)
			},
		},
		{
			name: "one failure less than the threshold keeps it closed", do: func(d *drive) { d.fail(2) }, state: Closed,
			check: func(d *drive) string { return want("failure count", d.c.FailureCount, 2) },
		},
		{
			name: "as many failures in a row as the threshold open it", do: func(d *drive) { d.fail(1); d.fail(1); d.fail(1) },
			state: Open, changes: []string{"CLOSED>OPEN failures"},
			check: func(d *drive) string {
				return want("next attempt", d.c.NextAttemptTime, start.Add(10*time.Second)) + want("last failure", d.c.LastFailureTime, start)
			},
		},
		{
			name: "a success between failures begins the count anew",
			do:   func(d *drive) { d.fail(2); d.results(Success, Failure, Failure) }, state: Closed,
			check: func(d *drive) string { return want("failure count", d.c.FailureCount, 2) },
		},
		{
			name: "a run of failures in the middle of a tally opens it",
			do:   func(d *drive) { d.results(Success, Failure, Failure, Failure, Success) }, state: Open, changes: []string{"CLOSED>OPEN failures"},
		},
		{
			name: "ignored results count in the totals only",
			do:   func(d *drive) { d.fail(2); d.results(Ignored, Ignored) }, state: Closed,
			check: func(d *drive) string {
				return want("failure count", d.c.FailureCount, 2) + want("requests", d.c.TotalRequests, 4) + want("failures", d.c.TotalFailures, 2)
			},
		},
		{
			name: "unused permits count in nothing", do: func(d *drive) { d.results(Unused, Unused) }, state: Closed,
			check: func(d *drive) string { return want("written", d.effect.Written, false) },
		},
		{
			name: "an open one refuses and says when to come again", do: func(d *drive) { d.fail(3); d.after(time.Second); d.acquire("a") },
			state: Open, changes: []string{"CLOSED>OPEN failures"},
			check: func(d *drive) string {
				return want("granted", d.effect.Granted, false) + want("next", d.effect.Next, start.Add(10*time.Second))
			},
		},
		{
			name: "after the timeout the first probe makes it half open", do: func(d *drive) { d.fail(3); d.after(10 * time.Second); d.acquire("a") },
			state: HalfOpen, changes: []string{"CLOSED>OPEN failures", "OPEN>HALF_OPEN timeout"},
			check: func(d *drive) string {
				return want("granted", d.effect.Granted, true) + want("probe", d.effect.Probe, "a") + want("attempts", d.c.HalfOpenAttempts, 1)
			},
		},
		{
			name: "half open lets as many probes through as may be in flight", do: func(d *drive) { d.halfOpen(); d.acquire("b"); d.acquire("c") },
			state: HalfOpen,
			check: func(d *drive) string {
				return want("granted", d.effect.Granted, false) + want("next", d.effect.Next, start.Add(15*time.Second)) + want("probes", len(d.c.Probes), 2)
			},
		},
		{
			name: "a finished probe allows another",
			do:   func(d *drive) { d.halfOpen(); d.acquire("b"); d.giveBack("a", Success); d.acquire("c") }, state: HalfOpen,
			check: func(d *drive) string { return want("granted", d.effect.Granted, true) },
		},
		{
			name: "enough successes in a row close it",
			do:   func(d *drive) { d.halfOpen(); d.acquire("b"); d.giveBack("a", Success); d.giveBack("b", Success) }, state: Closed,
			changes: []string{"HALF_OPEN>CLOSED probes_succeeded"},
			check: func(d *drive) string {
				return want("failure count", d.c.FailureCount, 0) + want("next attempt", d.c.NextAttemptTime, time.Time{})
			},
		},
		{
			name: "one failed probe opens it again, whatever succeeded before",
			do:   func(d *drive) { d.halfOpen(); d.acquire("b"); d.giveBack("a", Success); d.giveBack("b", Failure) }, state: Open,
			changes: []string{"HALF_OPEN>OPEN probe_failed"},
			check: func(d *drive) string {
				return want("next attempt", d.c.NextAttemptTime, d.now.Add(10*time.Second)) + want("successes", d.c.HalfOpenSuccesses, 0)
			},
		},
		{
			name: "an ignored or unused probe is given back and decides nothing",
			do:   func(d *drive) { d.halfOpen(); d.acquire("b"); d.giveBack("a", Ignored); d.giveBack("b", Unused) }, state: HalfOpen,
			check: func(d *drive) string {
				return want("probes", len(d.c.Probes), 0) + want("successes", d.c.HalfOpenSuccesses, 0) + want("requests", d.c.TotalRequests, 4)
			},
		},
		{
			name: "a probe that was given back twice counts once",
			do:   func(d *drive) { d.halfOpen(); d.giveBack("a", Success); d.giveBack("a", Success) }, state: HalfOpen,
			check: func(d *drive) string { return want("successes", d.c.HalfOpenSuccesses, 1) },
		},
		{
			name: "a probe whose holder died is given back after its lease",
			do: func(d *drive) {
				d.halfOpen()
				d.acquire("b")
				d.after(5 * time.Second)
				d.acquire("c")
			}, state: HalfOpen,
			check: func(d *drive) string {
				return want("granted", d.effect.Granted, true) + want("probes", len(d.c.Probes), 1)
			},
		},
		{
			name: "a probe that comes back after its lease decides nothing",
			do:   func(d *drive) { d.halfOpen(); d.after(5 * time.Second); d.giveBack("a", Failure) }, state: HalfOpen,
			check: func(d *drive) string { return want("failures", d.c.TotalFailures, 4) },
		},
		{
			name: "probes of an earlier half-open period still count",
			do: func(d *drive) {
				d.s.ProbeLease = time.Minute
				d.halfOpen()
				d.acquire("b")
				d.giveBack("b", Failure)
				d.after(10 * time.Second)
				d.acquire("c")
				d.acquire("d")
			}, state: HalfOpen, changes: []string{"HALF_OPEN>OPEN probe_failed", "OPEN>HALF_OPEN timeout"},
			check: func(d *drive) string {
				return want("granted", d.effect.Granted, false) + want("probes", len(d.c.Probes), 2)
			},
		},
		{
			name: "with as many earlier probes in flight as allowed it stays open",
			do: func(d *drive) {
				d.s.ProbeLease = time.Minute
				d.s.HalfOpenMaxRequests = 1
				d.halfOpen()
				d.do(Event{Kind: Trip})
				d.after(10 * time.Second)
				d.acquire("b")
			}, state: Open, changes: []string{"HALF_OPEN>OPEN tripped"},
			check: func(d *drive) string {
				return want("granted", d.effect.Granted, false) + want("next", d.effect.Next, start.Add(70*time.Second))
			},
		},
		{
			name: "results of an earlier generation decide nothing",
			do: func(d *drive) {
				late := d.c.Generation
				d.fail(3)
				d.do(Event{Kind: Reset})
				var t Tally
				t.Add(Attempt{Result: Failure}, false)
				t.Add(Attempt{Result: Failure}, false)
				t.Add(Attempt{Result: Failure}, false)
				d.do(Event{Kind: Report, Generation: late, Tally: t})
			}, state: Closed, changes: []string{"CLOSED>OPEN failures", "OPEN>CLOSED reset"},
			check: func(d *drive) string {
				return want("failure count", d.c.FailureCount, 0) + want("failures", d.c.TotalFailures, 6)
			},
		},
		{
			name: "the result of a probe of an earlier generation decides nothing",
			do: func(d *drive) {
				d.s.ProbeLease = time.Minute
				d.halfOpen()
				late := d.c.Generation
				d.do(Event{Kind: Trip})
				d.after(10 * time.Second)
				d.acquire("b")
				d.do(Event{Kind: Return, Generation: late, Probe: "a", Result: Failure})
			}, state: HalfOpen, changes: []string{"HALF_OPEN>OPEN tripped", "OPEN>HALF_OPEN timeout"},
		},
		{
			name: "a trip opens it for as long as it says", do: func(d *drive) { d.do(Event{Kind: Trip, For: time.Hour, Note: "deploy"}) },
			state: Open, changes: []string{"CLOSED>OPEN tripped"},
			check: func(d *drive) string {
				return want("next attempt", d.c.NextAttemptTime, start.Add(time.Hour)) + want("note", d.c.Note, "deploy")
			},
		},
		{
			name: "who tripped it is known until probes have closed it", do: func(d *drive) {
				d.do(Event{Kind: Trip, Operator: "ann", Note: "deploy"})
				d.after(10 * time.Second)
				d.acquire("a")
				d.giveBack("a", Failure)
			},
			state: Open, changes: []string{"CLOSED>OPEN tripped", "OPEN>HALF_OPEN timeout", "HALF_OPEN>OPEN probe_failed"},
			check: func(d *drive) string {
				got := want("operated", d.c.Operated, Operated{CauseTripped, "ann", "deploy", start}) + want("forced", d.c.Forced(), true)
				d.after(10 * time.Second)
				for _, id := range []string{"b", "c"} {
					d.acquire(id)
					d.giveBack(id, Success)
				}
				return got + want("state", d.c.State, Closed) + want("operated after it", d.c.Operated, Operated{}) + want("forced after it", d.c.Forced(), false)
			},
		},
		{
			name: "who reset it is known until failures open it", do: func(d *drive) { d.do(Event{Kind: Hold, Operator: "ann"}); d.do(Event{Kind: Reset, Operator: "bob"}) },
			state: Closed, changes: []string{"CLOSED>OPEN held", "OPEN>CLOSED reset"},
			check: func(d *drive) string {
				got := want("operated", d.c.Operated, Operated{Action: CauseReset, By: "bob", At: start}) + want("forced", d.c.Forced(), false)
				d.fail(3)
				return got + want("state", d.c.State, Open) + want("operated after it", d.c.Operated, Operated{}) + want("forced after it", d.c.Forced(), false)
			},
		},
		{
			name: "a trip without a duration lasts for the timeout", do: func(d *drive) { d.do(Event{Kind: Trip}) },
			state: Open, changes: []string{"CLOSED>OPEN tripped"},
			check: func(d *drive) string { return want("next attempt", d.c.NextAttemptTime, start.Add(10*time.Second)) },
		},
		{
			name: "a held one stays open however long it is", do: func(d *drive) { d.do(Event{Kind: Hold}); d.after(1000 * time.Hour); d.acquire("a") },
			state: Open, changes: []string{"CLOSED>OPEN held"},
			check: func(d *drive) string {
				return want("granted", d.effect.Granted, false) + want("next", d.effect.Next, time.Time{})
			},
		},
		{
			name: "a trip does not end a hold", do: func(d *drive) { d.do(Event{Kind: Hold}); d.do(Event{Kind: Trip}); d.after(time.Hour); d.acquire("a") },
			state: Open, changes: []string{"CLOSED>OPEN held"},
		},
		{
			name: "a reset closes a held one", do: func(d *drive) { d.do(Event{Kind: Hold}); d.do(Event{Kind: Reset}) },
			state: Closed, changes: []string{"CLOSED>OPEN held", "OPEN>CLOSED reset"},
			check: func(d *drive) string { return want("held", d.c.Held, false) },
		},
		{
			name: "a reset closes a half-open one and leaves its probes in flight", do: func(d *drive) { d.halfOpen(); d.do(Event{Kind: Reset}) },
			state: Closed, changes: []string{"HALF_OPEN>CLOSED reset"},
			check: func(d *drive) string { return want("probes", len(d.c.Probes), 1) },
		},
		{
			name: "a failure rate opens it once there were enough calls",
			do: func(d *drive) {
				d.s = Settings{Threshold: 100, FailureRate: 0.5, MinimumCalls: 10, Window: 10 * time.Second}
				for range 5 {
					d.results(Success, Failure)
				}
			}, state: Open, changes: []string{"CLOSED>OPEN failure_rate"},
		},
		{
			name: "a failure rate waits for enough calls",
			do: func(d *drive) {
				d.s = Settings{Threshold: 100, FailureRate: 0.5, MinimumCalls: 11, Window: 10 * time.Second}
				for range 5 {
					d.results(Success, Failure)
				}
			}, state: Closed,
		},
		{
			name: "what is older than the window does not count for the failure rate",
			do: func(d *drive) {
				d.s = Settings{Threshold: 100, FailureRate: 0.5, MinimumCalls: 10, Window: 10 * time.Second}
				d.fail(9)
				d.after(10 * time.Second)
				d.fail(1)
			}, state: Closed,
			check: func(d *drive) string { return want("buckets", len(d.c.Window), 1) },
		},
		{
			name: "a window has at most ten buckets",
			do: func(d *drive) {
				d.s = Settings{Threshold: 100, FailureRate: 1, MinimumCalls: 1000, Window: 10 * time.Second}
				for range 30 {
					d.results(Success)
					d.after(time.Second)
				}
			}, state: Closed,
			check: func(d *drive) string { return want("buckets", len(d.c.Window), 10) },
		},
		{
			name: "a success does not open it, whatever the rate",
			do: func(d *drive) {
				d.s = Settings{Threshold: 100, FailureRate: 0.1, MinimumCalls: 6, Window: 10 * time.Second}
				d.fail(5)
				d.results(Success)
			}, state: Closed,
		},
		{
			name: "the average follows about the last hundred response times",
			do: func(d *drive) {
				for range 1000 {
					var t Tally
					t.Add(Attempt{Result: Success, Took: time.Second}, false)
					d.do(Event{Kind: Report, Generation: 1, Tally: t})
				}
				for range 1000 {
					d.results(Success)
				}
			}, state: Closed,
			check: func(d *drive) string {
				if d.c.AverageResponseTime < 1 || d.c.AverageResponseTime > 1.1 {
					return fmt.Sprintf("average is %v ms, want about 1", d.c.AverageResponseTime)
				}
				return ""
			},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d := &drive{t: t, s: settings(), c: NewCircuit("billing:charge"), now: start}
			test.do(d)
			if d.c.State != test.state {
				t.Errorf("state is %v, want %v", d.c.State, test.state)
			}
			if !slices.Equal(d.changes, test.changes) {
				t.Errorf("changes are %q, want %q", d.changes, test.changes)
			}
			if test.check != nil {
				if wrong := test.check(d); wrong != "" {
					t.Error(wrong)
				}
			}
		})
	}
}

// tallyOf sums up results that took took each.
func tallyOf(results []Result, took time.Duration) Tally {
	var t Tally
	for _, r := range results {
		t.Add(Attempt{Result: r, Took: took}, false)
	}
	return t
}

func want[T comparable](what string, got, expected T) string {
	if got == expected {
		return ""
	}
	return fmt.Sprintf("%s is %v, want %v; ", what, got, expected)
}

func TestStep_FailedProbesKeepTheBeginOfTheOutageAndTellTheLastError(t *testing.T) {
	s := Settings{Threshold: 1, Timeout: 10 * time.Second, HalfOpenMaxRequests: 1, HalfOpenSuccesses: 1}
	fails := func(text string) (t Tally) {
		t.Add(Attempt{Result: Failure, Error: text}, false)
		return t
	}
	c, _ := Step(NewCircuit("k"), Event{Kind: Report, Generation: 1, Tally: fails("503: busy")}, start, s)
	if !c.OutageSince.Equal(start) || c.LastError != "503: busy" {
		t.Fatalf("after the failure that opens it the outage is since %v with %q, want since %v with 503: busy", c.OutageSince, c.LastError, start)
	}
	later := start.Add(11 * time.Second)
	c, _ = Step(c, Event{Kind: Acquire, Probe: "p"}, later, s)
	c, _ = Step(c, Event{Kind: Return, Generation: c.Generation, Probe: "p", Result: Failure, Error: "timeout"}, later, s)
	if !c.OutageSince.Equal(start) || !c.ChangedAt.Equal(later) || c.LastError != "timeout" {
		t.Errorf("after a failed probe the outage is since %v, changed at %v with %q; want since %v, at %v with timeout", c.OutageSince, c.ChangedAt, c.LastError, start, later)
	}
	later = later.Add(11 * time.Second)
	c, _ = Step(c, Event{Kind: Acquire, Probe: "q"}, later, s)
	c, _ = Step(c, Event{Kind: Return, Generation: c.Generation, Probe: "q", Result: Success}, later, s)
	if c.State != Closed || !c.OutageSince.IsZero() {
		t.Errorf("after a probe that succeeds it is %v with an outage since %v, want it closed without one", c.State, c.OutageSince)
	}
}
