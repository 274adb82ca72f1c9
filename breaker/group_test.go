package breaker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// results makes one attempt for each result, all at now.
func results(t *testing.T, b *Breaker, now time.Time, results ...Result) {
	t.Helper()
	for _, r := range results {
		p, err := b.Allow(t.Context(), now)
		if err != nil {
			t.Fatalf("no permit: %v", err)
		}
		p.Done(r, time.Millisecond, now)
	}
}

func TestBreaker_WithoutAStoreOpensAndCloses(t *testing.T) {
	var changes []string
	var freed []string
	g := NewGroup(Config{
		Changed: func(c Change) {
			changes = append(changes, fmt.Sprintf("%s %v>%v %s %v", c.Key, c.From, c.To, c.Cause, c.Own))
		},
		Freed: func(key string) { freed = append(freed, key) },
	})
	b := g.Breaker("billing:charge", settings())
	now := start
	if n, _ := b.Ready(now); n != Unlimited {
		t.Errorf("a closed breaker lets %d through, want %d", n, Unlimited)
	}
	results(t, b, now, Failure, Failure, Failure)
	if _, err := b.Allow(t.Context(), now); !errors.Is(err, ErrOpen) {
		t.Errorf("the error is %v, want %v", err, ErrOpen)
	}
	if n, next := b.Ready(now); n != 0 || !next.Equal(now.Add(10*time.Second)) {
		t.Errorf("an open breaker lets %d through, next at %v, want 0 and %v", n, next, now.Add(10*time.Second))
	}
	now = now.Add(10 * time.Second)
	if n, _ := b.Ready(now); n != 2 {
		t.Errorf("after the timeout it lets %d through, want 2", n)
	}
	var probes []Permit
	for range 2 {
		p, err := b.Allow(t.Context(), now)
		if err != nil {
			t.Fatal(err)
		}
		probes = append(probes, p)
	}
	if _, err := b.Allow(t.Context(), now); !errors.Is(err, ErrProbing) {
		t.Errorf("the error is %v, want %v", err, ErrProbing)
	}
	for _, p := range probes {
		p.Done(Success, time.Millisecond, now)
	}
	if b.State() != Closed {
		t.Errorf("the state is %v, want CLOSED", b.State())
	}
	expected := []string{
		"billing:charge CLOSED>OPEN failures true", "billing:charge OPEN>HALF_OPEN timeout true",
		"billing:charge HALF_OPEN>CLOSED probes_succeeded true",
	}
	if !slices.Equal(changes, expected) {
		t.Errorf("changes are %q, want %q", changes, expected)
	}
	if len(freed) == 0 {
		t.Error("Freed was never called")
	}
	c := b.Circuit()
	if c.TotalRequests != 5 || c.TotalFailures != 3 {
		t.Errorf("totals are %d/%d, want 3/5", c.TotalFailures, c.TotalRequests)
	}
}

func TestBreaker_CountsSuccessesInTheirBucket(t *testing.T) {
	s := Settings{Threshold: 100, FailureRate: 0.5, MinimumCalls: 10, Window: 10 * time.Second}
	b := NewGroup(Config{}).Breaker("k:k", s)
	results(t, b, start, slices.Repeat([]Result{Success}, 50)...)
	results(t, b, start.Add(5*time.Second), slices.Repeat([]Result{Failure}, 20)...)
	if b.State() != Closed {
		t.Fatalf("20 failures after 50 successes in the window leave it %v, want CLOSED", b.State())
	}
	results(t, b, start.Add(10*time.Second), slices.Repeat([]Result{Failure}, 1)...)
	if b.State() != Open {
		t.Errorf("once the successes left the window it is %v, want OPEN", b.State())
	}
}

func TestBreaker_NewSettingsDecideFromTheNextResultOn(t *testing.T) {
	g := NewGroup(Config{})
	b := g.Breaker("k:k", Settings{Threshold: 100})
	results(t, b, start, Failure, Failure, Failure)
	if g.Breaker("k:k", Settings{Threshold: 3}) != b {
		t.Fatal("the key has two breakers")
	}
	results(t, b, start, Failure)
	if b.State() != Open {
		t.Errorf("it is %v, want OPEN", b.State())
	}
}

func TestGroup_HoldResetAndTripMoveABreaker(t *testing.T) {
	g := NewGroup(Config{})
	b := g.Breaker("k:k", settings())
	if _, err := g.Hold(t.Context(), "k:k", Operator{Note: "maintenance"}); err != nil {
		t.Fatal(err)
	}
	if n, next := b.Ready(start.Add(1000 * time.Hour)); n != 0 || !next.IsZero() {
		t.Errorf("a held breaker lets %d through, next at %v, want 0 and never", n, next)
	}
	if _, err := g.Reset(t.Context(), "k:k", Operator{}); err != nil {
		t.Fatal(err)
	}
	if b.State() != Closed {
		t.Errorf("after a reset it is %v, want CLOSED", b.State())
	}
	c, err := g.Trip(t.Context(), "k:k", time.Hour, Operator{})
	if err != nil || c.State != Open {
		t.Errorf("after a trip it is %v with error %v, want OPEN and none", c.State, err)
	}
	if _, err := g.Hold(t.Context(), "k:k", Operator{Name: string(make([]byte, MaxOperator+1))}); err == nil {
		t.Error("an operator's name of any length is allowed")
	}
	if _, err := g.Trip(t.Context(), "k:k", 1000*time.Hour, Operator{}); err == nil {
		t.Error("a trip of 1000 h is allowed")
	}
	all, err := g.Circuits(t.Context())
	if err != nil || len(all) != 1 || all[0].ServiceKey != "k:k" {
		t.Errorf("circuits are %v with error %v, want that of k:k", all, err)
	}
}

func TestPermit_ZeroValueIsHarmless(*testing.T) { Permit{}.Done(Failure, 0, start) }

func (p Permit) id() string {
	if p.probe == nil {
		return ""
	}
	return p.probe.id
}

// The breaker of one instance is linearizable to its callers, although it counts successes
// outside the state machine.
func TestBreaker_IsLinearizable(t *testing.T) {
	s := Settings{Threshold: 2, Timeout: -1, HalfOpenMaxRequests: 2, HalfOpenSuccesses: 2} // ends at once
	type input struct {
		allow  bool
		permit Permit
		result Result
	}
	type output struct {
		permit Permit
		err    error
	}
	m := porcupine.Model{
		Init: func() any { return NewCircuit("k:k") },
		Step: func(state, in, out any) (bool, any) {
			c, i, o := state.(Circuit), in.(input), out.(output)
			e := Event{Kind: Report, Generation: i.permit.generation, Tally: tallyOf([]Result{i.result}, 0)}
			switch {
			case i.allow:
				e = Event{Kind: Acquire, Probe: o.permit.id()}
			case i.permit.Probe():
				e = Event{Kind: Return, Generation: i.permit.generation, Probe: i.permit.id(), Result: i.result}
			}
			next, effect := Step(c, e, start, s)
			if i.allow {
				if effect.Granted != (o.err == nil) {
					return false, state
				}
				if effect.Granted && (effect.Probe != o.permit.id() || next.Generation != o.permit.generation) {
					return false, state
				}
			}
			return true, next
		},
		Equal: reflect.DeepEqual,
	}
	for round := range 20 {
		b := NewGroup(Config{Instance: "i"}).Breaker("k:k", s)
		var mu sync.Mutex
		var history []porcupine.Operation
		began := time.Now()
		do := func(id int, in input, f func() output) output {
			called := time.Since(began)
			out := f()
			returned := time.Since(began)
			mu.Lock()
			defer mu.Unlock()
			history = append(history, porcupine.Operation{ClientId: id, Input: in, Output: out, Call: int64(called), Return: int64(returned)})
			return out
		}
		var workers sync.WaitGroup
		for id := range 8 {
			workers.Go(func() {
				r := rand.New(rand.NewPCG(uint64(round), uint64(id)))
				for range 30 {
					out := do(id, input{allow: true}, func() output {
						p, err := b.Allow(context.Background(), start)
						return output{p, err}
					})
					if out.err != nil {
						continue
					}
					in := input{permit: out.permit, result: Result(r.IntN(2))}
					do(id, in, func() output { in.permit.Done(in.result, 0, start); return output{} })
				}
			})
		}
		workers.Wait()
		if result := porcupine.CheckOperationsTimeout(m, history, 30*time.Second); result != porcupine.Ok {
			t.Fatalf("round %d: the history of %d operations is not linearizable: %v", round, len(history), result)
		}
	}
}

func TestGroup_StatesHaveEveryBreaker(t *testing.T) {
	g := NewGroup(Config{})
	g.Breaker("closed", settings())
	if _, err := g.Hold(t.Context(), "open", Operator{}); err != nil {
		t.Fatal(err)
	}
	if got, want := g.States(), map[string]State{"closed": Closed, "open": Open}; !maps.Equal(got, want) {
		t.Errorf("the states are %v, want %v", got, want)
	}
}
