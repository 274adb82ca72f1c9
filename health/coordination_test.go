package health_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/health"
)

func serving(id string) events.InstanceReport {
	return events.InstanceReport{ID: id, State: events.InstanceServing, Started: start}
}

func register(own string) *health.Register { return health.NewRegister("retry", serving(own), start) }

// ids returns the ids of the instances in a view at now.
func ids(r *health.Register, now time.Time) string {
	c := r.View(now, events.Backpressure{}, 0)
	out := ""
	for _, i := range c.Instances {
		out += i.ID
	}
	if c.TotalInstances != len(c.Instances) || len(c.InstanceRetryLoad) != c.TotalInstances || len(c.RecommendedDistribution) != c.TotalInstances {
		return fmt.Sprintf("%d instances in a view of %+v", c.TotalInstances, c)
	}
	return out
}

func mustHear(t *testing.T, r *health.Register, report events.InstanceReport, now time.Time) {
	t.Helper()
	if _, err := r.Heard(report, now); err != nil {
		t.Fatalf("the report of %s is refused: %v", report.ID, err)
	}
}

// attend lets the instance own hear its own reports, once a second, until a time.
func attend(t *testing.T, r *health.Register, own string, from, until time.Time) {
	t.Helper()
	for now := from; ; now = now.Add(time.Second) {
		now = earlier(now, until)
		if _, err := r.Heard(serving(own), now); !errors.Is(err, health.ErrOwnReport) {
			t.Fatalf("its own report gives %v, want %v", err, health.ErrOwnReport)
		}
		if !now.Before(until) {
			return
		}
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func TestRegister_InstanceCountsUntilItsLeaseEnds(t *testing.T) {
	r := register("b")
	mustHear(t, r, serving("a"), start)
	mustHear(t, r, serving("c"), start.Add(time.Second))
	last := start
	for _, c := range []struct {
		after time.Duration
		want  string
	}{
		{0, "abc"}, {health.InstanceLease - 1, "abc"}, {health.InstanceLease, "bc"}, {health.InstanceLease + time.Second, "b"}, {time.Hour, "b"},
	} {
		now := start.Add(c.after)
		attend(t, r, "b", last, now)
		last = now
		if got := ids(r, now); got != c.want {
			t.Errorf("%v after the first report the instances are %q, want %q", c.after, got, c.want)
		}
	}
	for _, want := range []bool{true, false} {
		if news, err := r.Heard(serving("a"), start.Add(time.Hour)); news != want || err != nil {
			t.Errorf("heard again it is news: %t, %v, want %t", news, err, want)
		}
	}
	if got := ids(r, start.Add(time.Hour)); got != "ab" {
		t.Errorf("heard again, the instances are %q, want ab", got)
	}
	for id, want := range map[string]bool{"a": true, "b": false, "stranger": false} {
		if got := r.Left(id); got != want {
			t.Errorf("Left(%s) is %t, want %t", id, got, want)
		}
	}
	if got := ids(r, start.Add(time.Hour)); got != "b" {
		t.Errorf("after a has left and b was reported to have left, the instances are %q, want b", got)
	}
}

func TestRegister_InstanceThatDoesNotAttendForgetsNobody(t *testing.T) {
	for name, c := range map[string]struct {
		echoes []time.Duration // when its own reports came back
		now    time.Duration
		want   string
	}{
		"its connection is lost":                    {nil, time.Hour, "ab"},
		"it was frozen, and hears itself first":     {[]time.Duration{time.Second, time.Hour}, time.Hour, "ab"},
		"it is starved":                             {[]time.Duration{4 * time.Second}, 4 * time.Second, "ab"},
		"it is starved, and the other is gone":      {[]time.Duration{4 * time.Second, 9 * time.Second}, 9 * time.Second, "b"},
		"it attends, and the other is gone":         {[]time.Duration{time.Second, 2 * time.Second, 3 * time.Second}, 3 * time.Second, "b"},
		"it attends, and the other is silent":       {[]time.Duration{time.Second, 2 * time.Second, 3*time.Second - 1}, 3 * time.Second, "ab"},
		"its clock is set back, and it is not sure": {[]time.Duration{time.Second, -time.Hour, time.Second, -time.Hour}, -time.Hour, "ab"},
	} {
		r := register("b")
		mustHear(t, r, serving("a"), start)
		for _, at := range c.echoes {
			if _, err := r.Heard(serving("b"), start.Add(at)); !errors.Is(err, health.ErrOwnReport) {
				t.Fatalf("%s: its own report gives %v, want %v", name, err, health.ErrOwnReport)
			}
		}
		if got := ids(r, start.Add(c.now)); got != c.want {
			t.Errorf("%s: the instances are %q, want %q", name, got, c.want)
		}
	}
}

func TestRegister_LatestChangeIsAnothersLatest(t *testing.T) {
	changed := func(id string, on bool, after time.Duration) events.InstanceReport {
		r := serving(id)
		r.Backpressure = events.Backpressure{On: on, Since: start.Add(after)}
		return r
	}
	r := health.NewRegister("retry", changed("b", true, time.Hour), start)
	if got := r.LatestChange(); got != (events.Backpressure{}) {
		t.Errorf("alone the latest change is %+v, want none", got)
	}
	for _, report := range []events.InstanceReport{changed("a", true, time.Minute), changed("c", false, 2*time.Minute), changed("d", true, time.Second)} {
		mustHear(t, r, report, start)
	}
	if got, want := r.LatestChange(), changed("c", false, 2*time.Minute).Backpressure; got != want {
		t.Errorf("the latest change is %+v, want %+v", got, want)
	}
}

func TestRegister_NumberOfInstancesIsBounded(t *testing.T) {
	r := register("own")
	for i := range health.MaxInstances - 1 {
		mustHear(t, r, serving(fmt.Sprint("i", i)), start)
	}
	if _, err := r.Heard(serving("one-more"), start); !errors.Is(err, health.ErrManyInstances) {
		t.Errorf("one more gives %v, want %v", err, health.ErrManyInstances)
	}
	mustHear(t, r, serving("i0"), start.Add(time.Second))
	attend(t, r, "own", start, start.Add(health.InstanceLease))
	mustHear(t, r, serving("one-more"), start.Add(health.InstanceLease))
	if _, err := r.Heard(serving("own"), start); !errors.Is(err, health.ErrOwnReport) {
		t.Errorf("a report with its own id gives %v, want %v", err, health.ErrOwnReport)
	}
}

func TestRegister_OneWithTheLowestIDLeads(t *testing.T) {
	joining := func(id string) events.InstanceReport {
		r := serving(id)
		r.State = events.InstanceJoining
		return r
	}
	for _, c := range []struct {
		name  string
		own   events.InstanceReport
		heard []events.InstanceReport
		want  string
	}{
		{"alone", serving("b"), nil, "b"},
		{"the lowest", serving("b"), []events.InstanceReport{serving("c"), serving("a")}, "a"},
		{"itself", serving("a"), []events.InstanceReport{serving("c"), serving("b")}, "a"},
		{"not one that is joining", joining("a"), []events.InstanceReport{serving("c"), joining("b")}, "c"},
		{"nobody while all are joining", joining("a"), []events.InstanceReport{joining("b")}, ""},
	} {
		r := health.NewRegister("retry", c.own, start)
		for _, report := range c.heard {
			mustHear(t, r, report, start)
		}
		if d, ok := r.Leader(); d.ID != c.want || ok != (c.want != "") {
			t.Errorf("%s: %q leads, want %q", c.name, d.ID, c.want)
		}
	}
	r := register("b")
	mustHear(t, r, serving("a"), start)
	attend(t, r, "b", start, start.Add(health.InstanceLease))
	if d, _ := r.Leader(); d.ID != "b" {
		t.Errorf("after the lease of a %q leads, want b", d.ID)
	}
}

func TestCoordination_JoinsWhatTheInstancesReport(t *testing.T) {
	a, b, c := serving("a"), serving("b"), serving("c")
	a.InFlight, a.InHand, a.Succeeded, a.Failed, a.SystemLoad, a.StoreDelayMs = 10, 20, 60, 0, 0.5, 800
	b.InFlight, b.InHand, b.Succeeded, b.Failed, b.SystemLoad, b.StoreDelayMs = 5, 7, 20, 20, 1, 3
	c.SystemLoad, c.StoreDelayMs, c.Capacity.Overload = 3, 40, 2
	a.Services = []events.ServiceAttempts{{Service: 1, Failed: 2}, {Service: 5, Succeeded: 1}}
	b.Services = []events.ServiceAttempts{{Service: 1, Succeeded: 3, Failed: 4}, {Service: 2, Failed: 9}}
	for i := range events.MaxServices {
		c.Services = append(c.Services, events.ServiceAttempts{Service: events.ServiceHash(10 + i), Failed: 1})
	}
	r := health.NewRegister("retry", a, start)
	mustHear(t, r, b, start)
	mustHear(t, r, c, start)
	on := events.Backpressure{On: true, Cause: "store_slow", Since: start}
	v := r.View(start.Add(time.Second), on, 4*time.Second)
	if v.CoordinationKey != "retry" || v.TotalInstances != 3 || v.ActiveRetries != 15 || v.InHand != 27 || v.InstanceRetryLoad["b"] != 5 {
		t.Errorf("the view counts %+v, want 3 instances with 15 in flight and 27 in hand", v)
	}
	if v.Samples != 100 || v.GlobalFailureRate != 0.2 || v.GlobalSuccessRate != 0.8 || v.SystemLoad != 1.5 || v.StoreDelayMs != 3 {
		t.Errorf("the view measures %+v, want a failure rate of 0.2 of 100, a mean load of 1.5 and the smallest delay, 3 ms", v)
	}
	if !v.GlobalBackpressure || v.CoordinatedDelay != 4000 || v.Backpressure != on || v.Instances[1].HeardMs != 1000 {
		t.Errorf("the view says of backpressure %+v, want it to be on for 4 s at least", v)
	}
	if n := len(v.Services); n != events.MaxServices {
		t.Fatalf("the view has the attempts of %d services, want the first %d", n, events.MaxServices)
	}
	for i, want := range []events.ServiceAttempts{{Service: 1, Succeeded: 3, Failed: 6}, {Service: 2, Failed: 9}, {Service: 5, Succeeded: 1}, {Service: 10, Failed: 1}} {
		if got := v.Services[i]; got != want {
			t.Errorf("the attempts of service %d are %+v, want the sums %+v", i, got, want)
		}
	}
	d := v.RecommendedDistribution
	if !(d["b"] > d["c"] && d["c"] > d["a"]) {
		t.Errorf("the distribution is %v, want b, which is well, above c, which is overloaded, above a, whose store is slow", d)
	}
}

func TestCoordination_HasTheFieldsOfTheOriginalDesign(t *testing.T) {
	doc, err := json.Marshal(register("a").View(start, events.Backpressure{}, 0))
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(doc, &fields); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{
		"coordinationKey": "retry", "totalInstances": 1.0, "activeRetries": 0.0, "globalBackpressure": false, "coordinatedDelay": 0.0,
		"instanceRetryLoad": map[string]any{"a": 0.0}, "recommendedDistribution": map[string]any{"a": 1.0},
		"globalSuccessRate": 1.0, "globalFailureRate": 0.0,
	} {
		if got, ok := fields[name]; !ok || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s of an instance that is alone is %v, want %v", name, got, want)
		}
	}
}

func TestCoordinatedDelay_IsAtLeastASecondWhileBackpressureIsOn(t *testing.T) {
	for _, c := range []struct {
		on     bool
		endsIn time.Duration
		want   time.Duration
	}{
		{false, 0, 0}, {false, time.Hour, 0}, {true, 5 * time.Second, 5 * time.Second}, {true, 0, time.Second}, {true, -time.Second, time.Second},
	} {
		if got := health.CoordinatedDelay(c.on, c.endsIn); got != c.want {
			t.Errorf("on %t and ending in %v, the delay is %v, want %v", c.on, c.endsIn, got, c.want)
		}
	}
}

func TestDistribution_IsAShareForEach(t *testing.T) {
	figure := rapid.OneOf(
		rapid.Float64Range(0, 8), rapid.Float64Range(0, 1e9), rapid.SampledFrom([]float64{0, 1e9, -1, math.Inf(1), math.NaN(), math.MaxFloat64}),
	)
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 40).Draw(t, "instances")
		instances := make([]health.Instance, n)
		for i := range instances {
			instances[i].ID = fmt.Sprint(i)
			instances[i].Overload = figure.Draw(t, "overload")
			instances[i].StoreDelayMs = figure.Draw(t, "delay")
		}
		shares := health.Distribution(instances)
		sum := 0.0
		for id, share := range shares {
			if !(share >= 0 && share <= 1) {
				t.Fatalf("instance %s has the share %v", id, share)
			}
			sum += share
		}
		if len(shares) != n || math.Abs(sum-1) > 1e-9 {
			t.Fatalf("%d shares sum to %v, want %d that sum to 1", len(shares), sum, n)
		}
		// An instance that gets worse takes no more than before.
		worse := rapid.IntRange(0, n-1).Draw(t, "worse")
		if rapid.Bool().Draw(t, "slower store") {
			instances[worse].StoreDelayMs = max(instances[worse].StoreDelayMs, 0) * 1.5
		} else {
			instances[worse].Overload = max(instances[worse].Overload, 0) + 0.5
		}
		id := instances[worse].ID
		if after := health.Distribution(instances)[id]; after > shares[id]+1e-9 {
			t.Fatalf("instance %s got worse and has the share %v instead of %v", id, after, shares[id])
		}
	})
}

func TestDistribution_SharesByOverloadAndDelay(t *testing.T) {
	for _, c := range []struct {
		name  string
		a, b  health.Instance
		share float64 // of a
	}{
		{"alike", at(0.4, 2), at(0.4, 2), 0.5},
		{"one at its limit beside one that waits for nothing", at(1, 0), at(0, 0), 1.0 / 3},
		{"one at half of its limit", at(0.5, 0), at(0, 0), 0.8 / 1.8},
		{"one at twice its limit", at(2, 0), at(0, 0), 0.2 / 1.2},
		{"one whose store takes a quarter of a second", at(0, 250), at(0, 0), 1.0 / 3},
		{"a store that is used to the full", at(0, 100), at(0, 15), 0.4639},
	} {
		c.a.ID, c.b.ID = "a", "b"
		if got := health.Distribution([]health.Instance{c.a, c.b})["a"]; math.Abs(got-c.share) > 1e-4 {
			t.Errorf("%s has the share %.4f, want %.4f", c.name, got, c.share)
		}
	}
}

func at(overload, delayMs float64) health.Instance {
	return health.Instance{Capacity: events.Capacity{Overload: overload}, InstanceReport: events.InstanceReport{StoreDelayMs: delayMs}}
}

func TestDistribution_OnlyAnInstanceThatIsWorseOffTakesLess(t *testing.T) {
	view := func(inHand int, shares map[string]float64) health.Coordination {
		return health.Coordination{TotalInstances: len(shares), InHand: inHand, RecommendedDistribution: shares}
	}
	for _, c := range []struct {
		name string
		view health.Coordination
		want int
	}{
		{"alone", view(8000, map[string]float64{"a": 1}), 8192},
		{"an even share", view(8000, map[string]float64{"a": 0.5, "b": 0.5}), 8192},
		{"a share that is hardly less", view(8000, map[string]float64{"a": 0.4, "b": 0.6}), 8192},
		{"a share that is less", view(8000, map[string]float64{"a": 0.3, "b": 0.7}), 3600},
		{"a small share", view(100, map[string]float64{"a": 0.01, "b": 0.99}), 64},
		{"nothing in hand", view(0, map[string]float64{"a": 0.3, "b": 0.7}), 64},
		{"more than may be", view(1e6, map[string]float64{"a": 0.3, "b": 0.7}), 8192},
		{"one that is not in the view", view(8000, map[string]float64{"b": 1}), 8192},
	} {
		if got, by := c.view.InHandLimit("a", 8192); got != c.want || (by == "") != (c.want == 8192) {
			t.Errorf("%s: the limit is %d by %q, want %d", c.name, got, by, c.want)
		}
	}
	few := view(0, map[string]float64{"a": 0.3, "b": 0.7})
	if got, by := few.InHandLimit("a", 10); got != 10 || by != "" {
		t.Errorf("with at most 10 the limit is %d by %q, want 10 by nothing", got, by)
	}
	for by, worse := range map[string]health.Instance{health.LimitedByOverload: at(3, 500), health.LimitedByStore: at(1, 500)} {
		v := few
		worse.ID = "a"
		v.Instances = []health.Instance{{InstanceReport: serving("b")}, worse}
		if got, said := v.InHandLimit("a", 8192); got != 64 || said != by {
			t.Errorf("with an overload of %v and a store delay of %v ms the limit is %d by %q, want 64 by %q", worse.Overload, worse.StoreDelayMs, got, said, by)
		}
	}
}

func TestDelay_FollowsWhatIsMeasuredAndFades(t *testing.T) {
	var d health.Delay
	if got := d.Get(start); got != 0 {
		t.Errorf("before any measurement it is %v, want 0", got)
	}
	d.Add(100*time.Millisecond, start)
	if got := d.Get(start); got != 100*time.Millisecond {
		t.Errorf("after one measurement it is %v, want 100ms", got)
	}
	if got := d.Get(start.Add(2 * time.Second)); got != 50*time.Millisecond {
		t.Errorf("two seconds later it is %v, want 50ms", got)
	}
	if got := d.Get(start.Add(time.Minute)); got > time.Microsecond {
		t.Errorf("a minute later it is %v, want nothing", got)
	}
	now := start
	for range 100 {
		now = now.Add(100 * time.Millisecond)
		d.Add(time.Second, now)
	}
	if got := d.Get(now); got < 900*time.Millisecond || got > time.Second {
		t.Errorf("after ten seconds of 1 s it is %v, want nearly 1 s", got)
	}
	for range 1000 {
		d.Add(time.Millisecond, now)
	}
	if got := d.Get(now); got > 5*time.Millisecond {
		t.Errorf("after a thousand quick ones at once it is %v, want about 1 ms", got)
	}
	d.Add(time.Millisecond, start) // a late one
	if got := d.Get(now); got < 0 || got > 5*time.Millisecond {
		t.Errorf("after a late measurement it is %v", got)
	}
}
