package compare

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestLateness_SumsUpWhatWasLateAndEarly(t *testing.T) {
	late := make([]time.Duration, 0, 101)
	for i := range 99 {
		late = append(late, time.Duration(i)*time.Millisecond)
	}
	late = append(late, -3*time.Millisecond, -time.Millisecond)
	got := lateness(late)
	want := Lateness{
		Operations: 101, P50: 48 * time.Millisecond, P99: 97 * time.Millisecond, Max: 98 * time.Millisecond,
		Early: 2, Earliest: 3 * time.Millisecond,
	}
	if got != want {
		t.Errorf("the lateness is %+v, want %+v", got, want)
	}
}

func TestMedian_IsTheMiddleOfWhatItIsGiven(t *testing.T) {
	for _, tc := range []struct {
		values []float64
		want   float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1}, 1}, {[]float64{5, 9, 1}, 5}} {
		if got := median(tc.values); got != tc.want {
			t.Errorf("the median of %v is %v, want %v", tc.values, got, tc.want)
		}
	}
}

func TestLoad_PayloadNamesTheOperationAndWhenItIsDue(t *testing.T) {
	l := Load{Operations: 10, Size: 512, Delay: time.Second, Spread: time.Second}
	now := time.Unix(1_000_000, 0)
	for i := range l.Operations {
		data := l.Payload(i, now)
		got, due, ok := ReadPayload(data)
		if !ok || got != i || !due.Equal(now.Add(l.DelayOf(i))) || len(data) != l.Size {
			t.Errorf("payload %d of %d bytes says %d, due %s, %t", i, len(data), got, due, ok)
		}
		if d := l.DelayOf(i); d < l.Delay || d >= l.Delay+l.Spread {
			t.Errorf("the delay of operation %d is %s", i, d)
		}
	}
	if _, _, ok := ReadPayload(make([]byte, PayloadSize-1)); ok {
		t.Error("a payload that is too short is read")
	}
}

func TestLoad_SubmitKeepsToItsRate(t *testing.T) {
	l := Load{Operations: 50, Size: 16, Rate: 1000}
	start := time.Now()
	n := 0
	err := l.Submit(t.Context(), func(int, []byte, time.Duration) error { n++; return nil })
	if err != nil || n != l.Operations {
		t.Fatalf("%d of %d submitted: %v", n, l.Operations, err)
	}
	if took := time.Since(start); took < 49*time.Millisecond {
		t.Errorf("50 operations took %s at 1000 a second", took)
	}
}

// fake is an instance that does nothing at once.
type fake struct {
	fails   error
	stopped *int
}

func (f fake) Processes() []Process { return []Process{{Role: RoleService, PID: os.Getpid()}} }

func (f fake) Mallocs(context.Context) (uint64, error) { return 0, ErrUnknown }

func (f fake) Run(_ context.Context, l Load) (Result, error) {
	return Result{Took: time.Duration(l.Operations) * time.Millisecond, Late: []time.Duration{time.Millisecond}}, f.fails
}

func (f fake) Park(context.Context, int, int) error { return f.fails }

func (f fake) Stop() error { *f.stopped++; return nil }

func contender(name string, order *[]string, f fake) Contender {
	return Contender{
		Name: name,
		Start: func(_ context.Context, dir string) (Instance, error) {
			if _, err := os.Stat(dir); err != nil {
				return nil, err
			}
			*order = append(*order, name)
			return f, nil
		},
	}
}

func TestPlan_RunTakesContendersByTurnsAndLeavesOutThoseThatFail(t *testing.T) {
	var order []string
	stopped := 0
	failed := errors.New("out of luck")
	missing := contender("missing", &order, fake{stopped: &stopped})
	missing.Missing = func() string { return "no such program: make deps" }
	p := Plan{
		Contenders: []Contender{
			contender("a", &order, fake{stopped: &stopped}), contender("b", &order, fake{stopped: &stopped}),
			contender("failing", &order, fake{stopped: &stopped, fails: failed}), missing,
		},
		Measurements: []Measurement{{Name: "throughput", About: "as fast as it can", Load: Load{Operations: 20, Size: 16}}},
		Baseline:     "a", Rounds: 2,
	}
	r, err := p.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(order, " "); got != "a b failing b a" {
		t.Errorf("the order was %s", got)
	}
	if stopped != len(order) {
		t.Errorf("%d of %d were stopped", stopped, len(order))
	}
	if got := r.Absent; len(got) != 2 || !strings.Contains(got["failing"], failed.Error()) || got["missing"] != "no such program: make deps" {
		t.Errorf("absent are %v", got)
	}
	for _, name := range []string{"a", "b"} {
		if samples := r.Of(name, "throughput"); len(samples) != 2 || samples[0].Rate != 1000 {
			t.Errorf("the samples of %s are %+v", name, samples)
		}
	}
}

func TestReport_DocumentHasTablesChartsAndWhatIsAbsent(t *testing.T) {
	r := Report{
		Plan: Plan{
			Name: "compare",
			Contenders: []Contender{
				{Name: "slow|er", About: About{Keeps: "at least once"}}, {Name: "fast 1", Of: "fast"}, {Name: "fast 2", Of: "fast"}, {Name: "gone"},
			},
			Measurements: []Measurement{{Name: "throughput", About: "as fast as it can"}},
			Baseline:     "fast 2", Rounds: 1,
		},
		Samples: []Sample{
			{Contender: "slow|er", Measurement: "throughput", Round: 1, Rate: 50, CPU: map[string]time.Duration{RoleService: time.Millisecond}},
			{Contender: "fast 1", Measurement: "throughput", Round: 1, Rate: 90, CPU: map[string]time.Duration{RoleBoth: time.Millisecond}},
			{Contender: "fast 2", Measurement: "throughput", Round: 1, Rate: 100, CPU: map[string]time.Duration{RoleService: time.Millisecond}},
		},
		Absent: map[string]string{"gone": "make deps"},
	}
	dir := filepath.Join(t.TempDir(), "docs")
	if err := r.Document(dir, "bench compare"); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "compare.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`| slow\|er | 50 | 0.50 | 1000 | - |`, "| fast 1 | 90 | 0.90 | 1000 (both) |", "- gone: make deps", "](compare-throughput.svg)", "](compare-cpu.svg)"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the document lacks %q:\n%s", want, text)
		}
	}
	chart, err := os.ReadFile(filepath.Join(dir, "compare-throughput.svg"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(chart), "fast 2") || strings.Contains(string(chart), "fast 1") {
		t.Error("the chart does not show the fastest variant alone")
	}
}

func TestWatched_FailsWhenItIsWorseByMoreThanTheTolerance(t *testing.T) {
	recorded := Watched{Ratio: 0.5, Allocations: 100}
	for _, tc := range []struct {
		found Watched
		fails int
	}{
		{Watched{0.5, 100}, 0},
		{Watched{0.9, 10}, 0},
		{Watched{0.41, 119}, 0},
		{Watched{0.39, 100}, 1},
		{Watched{0.5, 121}, 1},
		{Watched{0.1, 200}, 2},
	} {
		err := tc.found.Against(recorded, 0.2)
		n := 0
		if err != nil {
			n = len(strings.Split(err.Error(), "\n"))
		}
		if n != tc.fails {
			t.Errorf("%+v fails %d times: %v", tc.found, n, err)
		}
	}
}

func TestWatched_IsReadAsItWasRecorded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "recorded.json")
	want := Watched{Ratio: 0.625, Allocations: 140}
	if err := want.Record(path); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadWatched(path); err != nil || got != want {
		t.Errorf("%+v is read, want %+v: %v", got, want, err)
	}
}
