package simulator

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/rebound-mq/rebound/scheduler/policy"
)

func TestClock_EventsHappenInTheOrderOfTheirTimes(t *testing.T) {
	c := newClock()
	var got []int
	for i, d := range []int{3, 1, 2, 1, 0, 3} {
		c.after(time.Duration(d)*time.Second, func() {
			if want := start.Add(time.Duration(d) * time.Second); !c.now.Equal(want) {
				t.Errorf("event %d happens at %v, want %v", i, c.now, want)
			}
			got = append(got, i)
		})
	}
	if err := c.run(t.Context(), start.Add(2*time.Second)); err != nil {
		t.Fatal(err)
	}
	if want := []int{4, 1, 3, 2}; !slices.Equal(got, want) {
		t.Errorf("within 2 s the events %v happened, want %v", got, want)
	}
}

// asked sends requests at a rate for a while and counts how they ended.
func asked(t *testing.T, target Target, perSecond int, d time.Duration) (succeeded int, failures map[string]int, took time.Duration) {
	t.Helper()
	c := newClock()
	s := &server{Target: target, clock: c, random: rand.New(rand.NewPCG(1, 1))}
	failures = map[string]int{}
	for i := range int(d.Seconds() * float64(perSecond)) {
		c.at(start.Add(time.Duration(i)*time.Second/time.Duration(perSecond)), func() {
			s.ask(&operation{kind: ordinary}, func(a answer) {
				if a.failed {
					failures[a.failure.Code]++
					return
				}
				succeeded++
				took += a.took
			})
		})
	}
	if err := c.run(t.Context(), start.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	return succeeded, failures, took / time.Duration(max(succeeded, 1))
}

func TestTarget_ServesItsCapacity(t *testing.T) {
	quiet := sturdy()
	if got := quiet.Capacity(); got != 500 {
		t.Fatalf("the capacity is %v, want 500", got)
	}
	succeeded, failures, took := asked(t, quiet, 100, 10*time.Second)
	if succeeded != 1000 || len(failures) > 0 || took < 18*time.Millisecond || took > 22*time.Millisecond {
		t.Errorf("of 1000 requests below the capacity %d succeeded in %v on average, failures %v; want all in 20 ms", succeeded, took, failures)
	}
	succeeded, failures, _ = asked(t, quiet, 1000, 10*time.Second)
	if succeeded < 4900 || succeeded > 5200 || failures["503"] != 10_000-succeeded {
		t.Errorf("of 10,000 requests at twice the capacity %d succeeded, failures %v; want about 5000 and the rest shed", succeeded, failures)
	}
	shedding := Shedding(1).Target
	shedding.Plan = nil
	succeeded, failures, took = asked(t, shedding, 1000, 10*time.Second)
	if succeeded < 4950 || succeeded > 5050 || failures["503"] != 10_000-succeeded || took > 6*time.Millisecond {
		t.Errorf("of 10,000 requests at twice the rate %d succeeded in %v, failures %v; want about 5000 in 5 ms and the rest shed", succeeded, took, failures)
	}
}

func TestTarget_FailsByItsTrouble(t *testing.T) {
	for name, c := range map[string]struct {
		trouble   Trouble
		code      string
		succeeded int
	}{
		"it is down":                  {Trouble{To: time.Hour, Down: true}, "503", 0},
		"it hangs":                    {Trouble{To: time.Hour, Hang: true}, timedOut, 0},
		"it fails half the time":      {Trouble{To: time.Hour, Failing: 0.5}, "500", 500},
		"it is too slow":              {Trouble{To: time.Hour, Slow: 1000}, timedOut, 0},
		"it turns away all but 30":    {Trouble{To: time.Hour, PerSecond: 30}, "429", 300},
		"it is down half of the time": {Trouble{To: 5 * time.Second, Down: true}, "503", 500},
	} {
		succeeded, failures, _ := asked(t, sturdy(c.trouble), 100, 10*time.Second)
		if succeeded < c.succeeded-50 || succeeded > c.succeeded+50 || succeeded+failures[c.code] > 1000 || (c.succeeded < 1000 && failures[c.code] == 0) {
			t.Errorf("%s: %d of 1000 requests succeeded, failures %v; want about %d and the rest %s", name, succeeded, failures, c.succeeded, c.code)
		}
	}
}

func TestBudgets_QuotaOfAWSIsSpentAndRefunded(t *testing.T) {
	b := newAWSQuota()
	retries := 0
	for {
		if _, ok := b.withdraw(policy.Failure{Code: "503"}, start); !ok {
			break
		}
		retries++
	}
	if retries != 100 {
		t.Errorf("500 tokens pay for %d retries, want 100", retries)
	}
	b.requested(false, false, true, 5, start)
	if _, ok := b.withdraw(policy.Failure{Code: timedOut}, start); ok {
		t.Error("5 tokens pay for a retry after a timeout, want 10 to be needed")
	}
	for range 5 {
		b.requested(false, false, false, 0, start)
	}
	if cost, ok := b.withdraw(policy.Failure{Code: timedOut}, start); !ok || cost != 10 {
		t.Errorf("a retry after a timeout costs %d, allowed %t, want 10 of the 10 tokens", cost, ok)
	}
}

func TestBudgets_FinaglesIsAFifthOfTheRequests(t *testing.T) {
	b := &finagle{}
	for i := range 1000 {
		b.requested(false, false, false, 0, start.Add(time.Duration(i)*10*time.Millisecond))
	}
	retries := 0
	for {
		if _, ok := b.withdraw(policy.Failure{}, start.Add(9990*time.Millisecond)); !ok {
			break
		}
		retries++
	}
	if retries != 300 {
		t.Errorf("beside 1000 requests in 10 s there may be %d retries, want a fifth and 10 a second, 300", retries)
	}
	if _, ok := b.withdraw(policy.Failure{}, start.Add(time.Minute)); !ok {
		t.Error("a minute later there may be no retry, want 10 a second again")
	}
}

func TestBudgets_AdaptiveModeOfAWSSlowsDownWhenThrottled(t *testing.T) {
	b, now := newAWSAdaptive(), start
	for i := range 2000 {
		now = start.Add(time.Duration(i) * 10 * time.Millisecond)
		b.requested(i%2 == 0, i%2 == 0, true, 0, now)
	}
	if !b.on || b.rate >= 100 {
		t.Errorf("half throttled at 100 a second the rate is limited: %t, to %.1f, want below 100", b.on, b.rate)
	}
	passed := 0
	for i := range 10_000 {
		if b.pace(now.Add(time.Duration(i)*time.Millisecond)) == 0 {
			passed++
		}
	}
	if limit := 11*b.rate + 1; float64(passed) > limit {
		t.Errorf("in 10 s %d retries pass at %.1f a second, want at most %.0f", passed, b.rate, limit)
	}
}
