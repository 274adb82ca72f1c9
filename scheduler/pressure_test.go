package scheduler

import (
	"fmt"
	"testing"
	"time"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/health"
	"github.com/rebound-mq/rebound/scheduler/gate"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

// fleet is some instances in virtual time, which decide on backpressure as they do for real:
// by their reports, once a second.
type fleet struct {
	t        *testing.T
	gates    []*Gates
	policy   policy.Policy
	pressure gate.Pressure
	now      time.Time
	next     int // the instance that the next operation reaches
	// turned counts how often backpressure turned on or off.
	turned int
}

func newFleet(t *testing.T, instances int) *fleet {
	t.Helper()
	f := &fleet{t: t, policy: usual(), now: now}
	f.policy.EnableCircuitBreaker = false // what is held is held by backpressure
	for range instances {
		g := NewGates(breaker.NewGroup(breaker.Config{}), GatesConfig{Now: func() time.Time { return f.now }})
		g.SetInstances(instances)
		f.gates = append(f.gates, g)
	}
	return f
}

// attempt asks for one attempt at an operation of a service, which ends at once, and returns
// what has shut the gate.
func (f *fleet) attempt(service string, fails bool) *Shut {
	f.t.Helper()
	f.next++
	pass, shut, err := f.gates[f.next%len(f.gates)].Enter(f.t.Context(), &f.policy, &events.Operation{Service: service, Operation: "call", Priority: events.Normal}, "target", f.now)
	if err != nil {
		f.t.Fatalf("entering the gate of %s: %v", service, err)
	}
	if shut != nil {
		return shut
	}
	result := gate.Success
	if fails {
		result = gate.Failure
	}
	pass.Done(result, time.Millisecond, f.now)
	return nil
}

// decide steps backpressure.
func (f *fleet) decide() {
	var register *health.Register
	for i, g := range f.gates {
		report := events.InstanceReport{ID: fmt.Sprint(i), State: events.InstanceServing, Services: g.Services(f.now)}
		if register == nil {
			register = health.NewRegister("retry", report, f.now)
		} else if _, err := register.Heard(report, f.now); err != nil {
			f.t.Fatal(err)
		}
	}
	limits := gate.Limits{}.OrDefaults()
	var m gate.Measures
	m.Voting, m.Failing = gate.CountVotes(register.View(f.now, events.Backpressure{}, 0).Services, limits.FailureShare)
	after, changed := f.pressure.Step(m, limits, f.now)
	if changed {
		f.turned++
	}
	f.pressure = after
	for _, g := range f.gates {
		g.SetPressure(f.pressure.Trickles())
	}
}

// run lets operations of every service come due for a while, perSecond of each. It returns
// how many of each passed, and the last cause that kept one of each from it.
func (f *fleet) run(length time.Duration, perSecond int, services map[string]bool) (passed map[string]int, causes map[string]gate.Cause) {
	passed, causes = make(map[string]int), make(map[string]gate.Cause)
	began := f.now
	for i := range int(length.Seconds()) * perSecond {
		f.now = began.Add(time.Duration(i) * time.Second / time.Duration(perSecond))
		for service, fails := range services {
			if shut := f.attempt(service, fails); shut != nil {
				causes[service] = shut.Cause
			} else {
				passed[service]++
			}
		}
		if i%perSecond == 0 {
			f.decide()
		}
	}
	f.now = began.Add(length)
	return passed, causes
}

func TestPressure_OneDeadServiceIsNobodyElsesBusiness(t *testing.T) {
	for name, well := range map[string]int{"beside one that is well": 1, "beside twenty that are well": 20} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, 2)
			services := map[string]bool{"dead": true}
			for i := range well {
				services[fmt.Sprint("well", i)] = false
			}
			passed, causes := f.run(2*time.Minute, 30, services)
			if f.turned > 0 {
				t.Errorf("backpressure changed %d times, want it off throughout", f.turned)
			}
			for service, fails := range services {
				if !fails && (passed[service] != 3600 || causes[service] != "") {
					t.Errorf("%d operations of %s passed, the others were held by %q; want all 3600 to pass", passed[service], service, causes[service])
				}
			}
		})
	}
}

func TestPressure_FourOfFiveFailAndFindOutWhenItIsOver(t *testing.T) {
	for _, instances := range []int{1, 2, 3} {
		t.Run(fmt.Sprintf("%d instances", instances), func(t *testing.T) {
			f := newFleet(t, instances)
			services := map[string]bool{"a": true, "b": true, "c": true, "d": true, "well": false}
			f.run(5*time.Second, 30, services)
			if !f.pressure.Trickles() {
				t.Fatalf("after 5 s of failures backpressure is %+v, want a trickle", f.pressure)
			}
			passed, causes := f.run(time.Minute, 30, services)
			for service, fails := range services {
				switch n := passed[service]; {
				case !fails && (n != 1800 || causes[service] != ""):
					t.Errorf("%d operations of the service that is well passed, the others were held by %q; want all 1800", n, causes[service])
				case fails && (n < 50 || n > 70):
					t.Errorf("%d attempts at %s in a minute, want about 60", n, service)
				}
			}
			if f.turned != 1 {
				t.Errorf("backpressure changed %d times, want it to turn on once", f.turned)
			}
			// It is over. Every key finds out by its own trickle.
			for service := range services {
				services[service] = false
			}
			f.run(time.Duration(2*instances)*time.Second, 30, services)
			passed, causes = f.run(10*time.Second, 30, services)
			for service := range services {
				if passed[service] != 300 {
					t.Errorf("%d operations of %s passed in the 10 s after its recovery, the others were held by %q; want all 300", passed[service], service, causes[service])
				}
			}
			if f.pressure.On {
				t.Errorf("backpressure is %+v, want it off", f.pressure)
			}
		})
	}
}

func TestQuota_EachInstanceLetsOutAShareOfTheTrickle(t *testing.T) {
	f := newFleet(t, 2)
	f.run(5*time.Second, 30, map[string]bool{"a": true, "b": true, "c": true})
	g, released := f.gates[0], 0
	for range 300 {
		f.now = f.now.Add(100 * time.Millisecond)
		q := g.Quota(&f.policy, "a", "call", events.Normal, f.now)
		switch {
		case q.Cause != gate.CauseBackpressure || q.N > 1:
			t.Fatalf("the lanes may let out %+v, want one at most, because of backpressure", q)
		case q.Shut && !q.Next.After(f.now):
			t.Fatalf("the lanes may let out %+v, want a time to ask again", q)
		case q.N == 1:
			released++
			g.Released("a", "call", f.now)
			f.next = 0
			f.attempt("a", true) // it arrives at the other instance
		}
	}
	if released < 14 || released > 16 {
		t.Errorf("one of two instances let %d out in half a minute, want 15", released)
	}
	if q := g.Quota(&f.policy, "a", "call", events.Critical, f.now); q.Cause == gate.CauseBackpressure {
		t.Errorf("critical operations may be let out as %+v, want them not to be slowed by backpressure", q)
	}
}

func TestPressure_OperationThatDoesNotRespectItPassesAFailingKey(t *testing.T) {
	f := newFleet(t, 1)
	f.run(5*time.Second, 30, map[string]bool{"a": true, "b": true, "c": true})
	overrides, err := policy.ParseOverrides(map[string]string{"respectglobalbackpressure": "false"})
	if err != nil {
		t.Fatal(err)
	}
	respects, free := f.policy, *f.policy.Override(overrides)
	for range 20 {
		// The operations of the key alternate, so that none is judged by what the other asks for.
		f.policy = respects
		for shut := (*Shut)(nil); shut == nil; {
			shut = f.attempt("a", true)
		}
		f.policy = free
		if shut := f.attempt("a", true); shut != nil {
			t.Fatalf("an operation that does not respect backpressure is shut out by %+v", shut)
		}
	}
	q := f.gates[0].Quota(&free, "a", "call", events.Normal, f.now)
	if q.Cause == gate.CauseBackpressure {
		t.Errorf("the lanes may let out %+v of those that do not respect backpressure, want them not to be slowed by it", q)
	}
	if q := f.gates[0].Quota(&respects, "a", "call", events.Normal, f.now); q.Cause != gate.CauseBackpressure {
		t.Errorf("the lanes may let out %+v of the others, want backpressure to slow them", q)
	}
}

func TestPressure_SuccessMakesTheLanesLook(t *testing.T) {
	opened := 0
	g := NewGates(breaker.NewGroup(breaker.Config{}), GatesConfig{Opened: func(string) { opened++ }})
	pol, op := usual(), &events.Operation{Service: "a", Operation: "call"}
	pol.EnableCircuitBreaker = false
	for _, c := range []struct {
		name   string
		on     bool
		result gate.Result
		want   int
	}{
		{"a success without backpressure", false, gate.Success, 0},
		{"a failure under backpressure", true, gate.Failure, 0},
		{"a success under backpressure", true, gate.Success, 1},
	} {
		g.SetPressure(c.on)
		opened = 0
		pass, shut, err := g.Enter(t.Context(), &pol, op, "target", now)
		if err != nil || shut != nil {
			t.Fatalf("%s: the gate is shut by %+v, %v", c.name, shut, err)
		}
		pass.Done(c.result, time.Millisecond, now)
		if opened != c.want {
			t.Errorf("%s: the lanes are made to look %d times, want %d", c.name, opened, c.want)
		}
	}
}
