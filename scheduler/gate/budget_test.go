package gate

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestRetryBudget_FailuresAreBoundedBySuccesses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var e RetryBudget
		now, inFlight := begin, 0
		failures, successes, busiest := 0, 0, 0
		for range rapid.IntRange(1, 400).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(50*time.Millisecond)).Draw(t, "pause")))
			if rapid.Bool().Draw(t, "send") {
				if n, _, limited := e.Available(inFlight, now); !limited || n > 0 {
					inFlight++
					busiest = max(busiest, inFlight)
				}
				continue
			}
			if inFlight == 0 {
				continue
			}
			inFlight--
			r := rapid.SampledFrom([]Result{Success, Failure, Failure, Failure, Throttled, Ignored}).Draw(t, "result")
			e.Done(r, now)
			switch r {
			case Success:
				successes++
			case Failure, Throttled:
				failures++
			}
		}
		bound := retryBudgetMost + float64(successes) + retryBudgetPerSecond*now.Sub(begin).Seconds() + float64(busiest)
		if float64(failures) > bound {
			t.Fatalf("%d failures with %d successes, want at most %.0f", failures, successes, bound)
		}
	})
}

func TestRetryBudget_TargetThatAnswersWellIsNeverLimited(t *testing.T) {
	var e RetryBudget
	for i := range 10_000 {
		now := at(float64(i) / 1000)
		if _, _, limited := e.Available(1_000_000, now); limited {
			t.Fatalf("attempt %d is limited, want none to be", i)
		}
		r := Success
		if i%3 == 0 {
			r = Failure
		}
		e.Done(r, now)
	}
}

func TestRetryBudget_SpentOneTricklesOn(t *testing.T) {
	var e RetryBudget
	for range 200 {
		e.Done(Failure, at(0))
	}
	n, next, limited := e.Available(0, at(0))
	if n != 0 || !limited || !next.Equal(at(0.1)) {
		t.Fatalf("a spent budget has %d left, next after %v, want 0 and 100 ms", n, next.Sub(at(0)))
	}
	if n, _, _ := e.Available(0, at(1)); n != 10 {
		t.Errorf("after a second %d are available, want 10", n)
	}
	if _, _, limited := e.Available(0, at(5)); limited {
		t.Error("half a budget is limited, want it to be ample")
	}
}

func TestRetryBudget_SaysWhenThereIsMoreBesideWhatIsInFlight(t *testing.T) {
	var e RetryBudget
	for range 80 {
		e.Done(Failure, at(0))
	}
	n, next, limited := e.Available(30, at(0))
	if n != 0 || !limited || !next.Equal(at(1.1)) {
		t.Fatalf("20 of the budget beside 30 in flight allow %d more, next after %v, want 0 and the 1.1 s in which 11 are earned", n, next.Sub(at(0)))
	}
	if n, _, _ := e.Available(30, next); n != 1 {
		t.Errorf("then %d are available, want 1", n)
	}
}
