package demo

import (
	"crypto/sha256"
	"testing"
	"time"

	"github.com/rebound-mq/rebound/events"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func scheduledAt(id string, attempt int, due time.Time) events.Scheduled {
	return events.Scheduled{About: events.About{ID: id}, Attempt: attempt, Due: due}
}

func outcome(id, name string, attempts int, reason events.Reason) events.Outcome {
	return events.Outcome{About: events.About{ID: id}, Outcome: name, Attempts: attempts, ElapsedMs: 1500, Reason: reason}
}

func TestTally_FollowsOperationsToTheirEnd(t *testing.T) {
	y, payload := newTally(2), sha256.Sum256([]byte("a"))
	y.arrived("good", 1, noon)
	y.submit("good", "push", payload)
	y.submit("bad", "push", payload)
	y.scheduled(scheduledAt("good", 1, noon.Add(time.Second)))
	y.scheduled(scheduledAt("bad", 1, noon.Add(3*time.Second)))

	c := y.snapshot(noon.Add(2 * time.Second))
	if c.Submitted != 2 || c.Open != 2 || !c.NextDue.Equal(noon.Add(3*time.Second)) || c.Redeliveries != 0 {
		t.Errorf("after two decisions the counts are %+v", c)
	}
	y.arrived("good", 2, noon.Add(1010*time.Millisecond))
	y.accepted("good", payload, true)
	y.ended(outcome("good", events.RetrySuccess, 2, ""))
	select {
	case <-y.done:
		t.Error("the tally is done after one of two")
	default:
	}
	y.scheduled(scheduledAt("bad", 2, noon.Add(5*time.Second)))
	y.ended(outcome("bad", events.RetryFailed, 4, events.ReasonExhausted))
	<-y.done

	c = y.snapshot(noon.Add(9 * time.Second))
	if c.Success != 1 || c.Failed != 1 || c.Reasons[events.ReasonExhausted] != 1 || c.Open != 0 || !c.NextDue.IsZero() || c.Redeliveries != 1+3 {
		t.Errorf("at the end the counts are %+v", c)
	}
	var s Summary
	y.summarise(&s)
	if want := (Range{2, 4, 4}); s.Attempts != want {
		t.Errorf("attempts are %+v, want %+v", s.Attempts, want)
	}
	if s.Lateness.Max != 10 || s.Early != 0 || s.TimeToSuccess.P50 != 1500 {
		t.Errorf("lateness is %+v, time to success %+v", s.Lateness, s.TimeToSuccess)
	}
}

func TestTally_PairsDueAndArrivalInEitherOrder(t *testing.T) {
	y := newTally(0)
	y.submit("a", "push", hash{})
	y.arrived("a", 2, noon.Add(-time.Millisecond))
	y.scheduled(scheduledAt("a", 1, noon))
	y.scheduled(scheduledAt("a", 2, noon.Add(time.Second)))
	y.arrived("a", 3, noon.Add(time.Second+4*time.Millisecond))
	var s Summary
	y.summarise(&s)
	if s.Early != 1 || s.Lateness.P50 != -1 || s.Lateness.Max != 4 {
		t.Errorf("lateness is %+v with %d early, want -1 and 4 ms with 1 early", s.Lateness, s.Early)
	}
}

func TestTally_EarlyReleaseIsNotEarly(t *testing.T) {
	y := newTally(0)
	for id, state := range map[string]time.Duration{
		"released": 2 * time.Second,  // its breaker has closed
		"held":     9 * time.Second,  // what came later says nothing of this attempt
		"early":    10 * time.Second, // nothing has changed its time
	} {
		y.submit(id, "push", hash{})
		y.scheduled(scheduledAt(id, 1, noon.Add(5*time.Second)))
		y.due(id, 2, noon.Add(state))
	}
	y.arrived("released", 2, noon.Add(2100*time.Millisecond))
	y.arrived("held", 2, noon.Add(6*time.Second))
	y.arrived("early", 2, noon.Add(4*time.Second))
	var s Summary
	y.summarise(&s)
	if s.Early != 1 || s.ReleasedEarly != 1 || s.Lateness != (Distribution{P50: 100, P99: 1000, Max: 1000}) {
		t.Errorf("%d early, %d released, lateness %+v; want 1, 1 and 100, 1000, 1000 ms", s.Early, s.ReleasedEarly, s.Lateness)
	}
}

func TestTally_CountsWhatReachesTheTargetTwice(t *testing.T) {
	y := newTally(0)
	for _, id := range []string{"late", "prompt", "once"} {
		y.submit(id, "push", hash{})
	}
	y.arrived("late", 1, noon)
	y.accepted("late", hash{}, false)
	y.arrived("late", 2, noon)
	y.accepted("late", hash{}, true)
	for range 2 {
		y.arrived("prompt", 2, noon)
		y.accepted("prompt", hash{}, true)
	}
	y.arrived("once", 2, noon)
	y.accepted("once", hash{}, true)
	var s Summary
	y.summarise(&s)
	if s.Duplicates != 2 || s.NeedlessDuplicates != 1 || s.RepeatedAttempts != 1 {
		t.Errorf("%d duplicates, %d of them needless, and %d repeats; want 2, 1 and 1", s.Duplicates, s.NeedlessDuplicates, s.RepeatedAttempts)
	}
}

func TestTally_WebhookThatIsTakenAtOnceIsNoOperation(t *testing.T) {
	y := newTally(0)
	y.arrived("a", 1, noon)
	y.accepted("a", hash{}, true)
	y.taken("a")
	if c, e := y.snapshot(noon), y.evidence(); c.First != 1 || c.Submitted != 0 || len(e) != 0 {
		t.Errorf("counts are %+v and the evidence is of %d operations", c, len(e))
	}
}

func TestTally_SecondOutcomeIsNotCountedAgain(t *testing.T) {
	y := newTally(2)
	y.submit("a", "push", hash{})
	for range 2 {
		y.ended(outcome("a", events.RetrySuccess, 2, ""))
	}
	if c := y.snapshot(noon); c.Success != 1 {
		t.Errorf("counts are %+v", c)
	}
	select {
	case <-y.done:
		t.Error("two outcomes of one operation passed for two operations")
	default:
	}
}

func TestTally_PercentilesAreOfTheNearestRank(t *testing.T) {
	var of []time.Duration
	for i := 100; i > 0; i-- {
		of = append(of, time.Duration(i)*time.Millisecond)
	}
	if got, want := distribution(of), (Distribution{50, 99, 100}); got != want {
		t.Errorf("of 1 to 100 ms it is %+v, want %+v", got, want)
	}
	if got, want := distribution(of[:1]), (Distribution{1, 1, 1}); got != want {
		t.Errorf("of 1 ms it is %+v, want %+v", got, want)
	}
	if got := distribution(nil); got != (Distribution{}) {
		t.Errorf("of nothing it is %+v", got)
	}
}
