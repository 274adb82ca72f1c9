package gate

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rebound-mq/rebound/events"
)

func attempts(service events.ServiceHash, succeeded, failed int) events.ServiceAttempts {
	return events.ServiceAttempts{Service: service, Succeeded: succeeded, Failed: failed}
}

func TestCountVotes_OneServiceHasOneVote(t *testing.T) {
	for name, c := range map[string]struct {
		services        []events.ServiceAttempts
		share           float64
		voting, failing int
	}{
		"nobody":                             {nil, 0.75, 0, 0},
		"too few attempts for a vote":        {[]events.ServiceAttempts{attempts(1, 0, 4), attempts(2, 4, 0)}, 0.75, 0, 0},
		"a busy one and two that are not":    {[]events.ServiceAttempts{attempts(1, 0, 100_000), attempts(2, 5, 0), attempts(3, 9, 1)}, 0.75, 3, 1},
		"three of four attempts failed":      {[]events.ServiceAttempts{attempts(1, 25, 75)}, 0.75, 1, 1},
		"hardly fewer":                       {[]events.ServiceAttempts{attempts(1, 26, 74)}, 0.75, 1, 0},
		"another share":                      {[]events.ServiceAttempts{attempts(1, 5, 5)}, 0.5, 1, 1},
		"a share that is turned off":         {[]events.ServiceAttempts{attempts(1, 0, 50)}, Off, 1, 0},
		"all of their attempts must succeed": {[]events.ServiceAttempts{attempts(1, 50, 0), attempts(2, 49, 1)}, 0.01, 2, 1},
	} {
		if voting, failing := CountVotes(c.services, c.share); voting != c.voting || failing != c.failing {
			t.Errorf("%s: %d vote and %d of them fail, want %d and %d", name, voting, failing, c.voting, c.failing)
		}
	}
}

func TestVotes_CountTheLastTenSeconds(t *testing.T) {
	var v Votes
	for s := range 30 {
		now := at(float64(s))
		v.Add(7, Failure, now)
		v.Add(7, Success, now)
		v.Add(7, Throttled, now)
		v.Add(7, Ignored, now)
		v.Add(7, Unused, now)
	}
	v.Add(9, Success, at(29))
	for _, c := range []struct {
		now  float64
		want []events.ServiceAttempts
	}{
		{29, []events.ServiceAttempts{attempts(7, 10, 10), attempts(9, 1, 0)}},
		{34, []events.ServiceAttempts{attempts(7, 5, 5), attempts(9, 1, 0)}},
		{39, nil},
	} {
		if got := v.Counts(at(c.now)); !slices.Equal(got, c.want) {
			t.Errorf("at %v s the counts are %v, want %v", c.now, got, c.want)
		}
	}
	if n := len(v.services); n != 0 {
		t.Errorf("%d services without recent attempts are remembered, want none", n)
	}
}

func TestVotes_SampleOfManyServicesIsTheSameAtEveryInstance(t *testing.T) {
	const services = 20_000
	instances, known := make([]Votes, 3), make([]map[events.ServiceHash]bool, 3)
	var union []events.ServiceHash
	for n := range services {
		hash := events.HashService(fmt.Sprint("service", n))
		union = append(union, hash)
		for i := range instances {
			if (n+i)%4 == 0 {
				continue // each instance knows three of four
			}
			if known[i] == nil {
				known[i] = make(map[events.ServiceHash]bool)
			}
			known[i][hash] = true
			instances[i].Add(hash, Failure, at(0))
			if n := len(instances[i].services); n > maxTallied {
				t.Fatalf("an instance remembers %d services, want at most %d", n, maxTallied)
			}
		}
	}
	slices.Sort(union)
	for i := range instances {
		counts := instances[i].Counts(at(0))
		if len(counts) != events.MaxServices {
			t.Fatalf("instance %d counts %d services, want %d", i, len(counts), events.MaxServices)
		}
		var sampled []events.ServiceHash
		for _, c := range counts {
			sampled = append(sampled, c.Service)
		}
		for _, hash := range union[:events.MaxServices] {
			if got := slices.Contains(sampled, hash); got != known[i][hash] {
				t.Errorf("instance %d counts %d: %t, want %t", i, hash, got, known[i][hash])
			}
		}
	}
	// Services that went on for longer than the others come back into the sample.
	v := &instances[0]
	last := events.HashService("service1")
	for s := 1; s < 2*voteSeconds; s++ {
		v.Add(last, Success, at(float64(s)))
		v.Counts(at(float64(s)))
	}
	if got, want := v.Counts(at(2*voteSeconds)), (events.ServiceAttempts{Service: last, Succeeded: 9}); !slices.Equal(got, []events.ServiceAttempts{want}) {
		t.Errorf("once the others have ended the counts are %v, want %v alone", got, want)
	}
}

func TestTrickle_LetsOneGoAfterEachPause(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var trickle Trickle
		pause := time.Duration(rapid.IntRange(1, 10).Draw(t, "pause")) * time.Second
		now, went := begin, 0
		for range 200 {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(3*time.Second)).Draw(t, "later")))
			n, next := trickle.Available(pause, now)
			if n < 0 || n > trickleBurst || n == 0 && (!next.After(now) || next.Sub(now) > pause) {
				t.Fatalf("%d may go, the next at %v; want 0 to %d, and the next within %v", n, next.Sub(now), trickleBurst, pause)
			}
			if n == 0 {
				if n, _ := trickle.Available(pause, next); n == 0 {
					t.Fatalf("none may go at the time that was named for it")
				}
				continue
			}
			trickle.Take(pause, now)
			went++
		}
		if most := int(now.Sub(begin)/pause) + trickleBurst; went > most {
			t.Fatalf("%d went in %v with a pause of %v, want at most %d", went, now.Sub(begin), pause, most)
		}
	})
}

// results records results in a gate, F for a failure and S for a success.
func results(g *Gate, all string, now time.Time) {
	for _, r := range all {
		result := Success
		if r == 'F' {
			result = Failure
		}
		g.Conclude(result, time.Millisecond, now)
	}
}

func TestGate_BackpressureSlowsOnlyAFailingKey(t *testing.T) {
	on := Conditions{Trickle: 2 * time.Second, Priority: events.High}
	for name, c := range map[string]struct {
		before     string
		conditions Conditions
		later      time.Duration
		slowed     bool
	}{
		"a key that fails":                                               {"FFFF", on, 0, true},
		"a key that has hardly failed":                                   {"FFF", on, 0, false},
		"a key without attempts":                                         {"", on, 0, false},
		"a key that succeeds":                                            {"SSSSSSSS", on, 0, false},
		"a key that fails every second time":                             {"FSFSFSFSFSFS", on, 0, false},
		"a key that fails four of five times":                            {"FSFFFFSFFF", on, 0, true},
		"one success after many failures":                                {"FFFFFFFFFFFFS", on, 0, true},
		"two successes in a row":                                         {"FFFFFFFFFFFFSS", on, 0, false},
		"failures that are over for long":                                {"FFFFFFFF", on, recentFor, false},
		"failures that are not over for so long":                         {"FFFFFFFF", on, recentFor - 1, true},
		"critical operations":                                            {"FFFF", Conditions{Trickle: time.Second, Priority: events.Critical}, 0, false},
		"backpressure that is off, or operations that do not respect it": {"FFFF", Conditions{Priority: events.High}, 0, false},
	} {
		g := New(Settings{})
		results(g, c.before, at(0))
		now := at(0).Add(c.later)
		for i := range 2 {
			if _, a, ok := g.Enter(c.conditions, now); !ok {
				t.Errorf("%s: attempt %d is refused, %+v; want two to pass", name, i+1, a)
			}
		}
		a := g.Ready(c.conditions, now)
		if slowed := a.N == 0 && a.Cause == CauseBackpressure; slowed != c.slowed {
			t.Errorf("%s: after two attempts the answer is %+v, want it slowed: %t", name, a, c.slowed)
		}
		if c.slowed && !a.Next.Equal(now.Add(2*time.Second)) {
			t.Errorf("%s: the next may go after %v, want after 2s", name, a.Next.Sub(now))
		}
	}
}
