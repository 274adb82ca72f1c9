package gate

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestAbsences_OneOperationOfASubjectAsksAndTheOthersAreTurnedAway(t *testing.T) {
	var a Absences
	now := time.Unix(1000, 0)
	if _, ok := a.Enter("a", "x", now); !ok {
		t.Fatal("an operation is turned away before anybody is known to be absent")
	}
	next, probes := a.Missed("a", "x", time.Second, now)
	if want := now.Add(100 * time.Millisecond); !probes || !next.Equal(want) {
		t.Fatalf("after the first miss it probes: %v, next at %v; want true and %v", probes, next, want)
	}
	if next, ok := a.Enter("b", "x", now); ok || !next.IsZero() {
		t.Errorf("a second operation may go: %v, next %v; want false, and nothing to wait for but the prober", ok, next)
	}
	if _, ok := a.Enter("b", "y", now); !ok {
		t.Error("an operation for another subject is turned away")
	}
	if _, ok := a.Enter("a", "x", now); !ok {
		t.Error("the prober is turned away")
	}
	if lasted, ended := a.Met("x", now.Add(3*time.Second)); !ended || lasted != 3*time.Second {
		t.Errorf("an answer ends the absence: %v, after %v; want true after 3s", ended, lasted)
	}
	if _, ok := a.Enter("b", "x", now); !ok || a.Bound(now).Limited {
		t.Errorf("after the answer the second may go: %v, and the lanes are limited: %v; want true, false", ok, a.Bound(now).Limited)
	}
}

func TestAbsences_ProberAsksAgainEverySecondAtLast(t *testing.T) {
	var a Absences
	now := time.Unix(1000, 0)
	begin, at := now, []time.Duration{}
	for range 6 {
		next, _ := a.Missed("a", "x", time.Second, now)
		now = next
		at = append(at, next.Sub(begin))
	}
	for i, want := range []int64{100, 300, 700, 1500, 2500, 3500} {
		if at[i].Milliseconds() != want {
			t.Errorf("it asks again for the %d. time after %v, want after %d ms", i+1, at[i], want)
		}
	}
}

func TestAbsences_OneThatLastsIsFoundOnce(t *testing.T) {
	var a Absences
	begin := time.Unix(1000, 0)
	var found []time.Duration
	for now := begin; now.Sub(begin) < 5*time.Second; now = now.Add(500 * time.Millisecond) {
		a.Missed("a", "x", time.Second, now)
		if a.Lasts("x", time.Second, now) {
			found = append(found, now.Sub(begin))
		}
	}
	if len(found) != 1 || found[0] != time.Second {
		t.Errorf("it is found to last after %v, want once, after 1s", found)
	}
	a.Met("x", begin)
	if a.Lasts("x", time.Second, begin.Add(time.Hour)) {
		t.Error("it is found to last after its end")
	}
}

func TestAbsences_WithoutAProberInHandTheLanesAskEverMoreSlowly(t *testing.T) {
	var a Absences
	now := time.Unix(1000, 0)
	for _, seconds := range []int{1, 2, 4, 8, 15, 15} {
		want := time.Duration(seconds) * time.Second
		if next, ok := a.Enter("a", "x", now); !ok {
			t.Fatalf("nobody may ask at %v, only at %v", now, next)
		}
		if _, probes := a.Missed("a", "x", 0, now); probes {
			t.Fatal("it stays in hand although none may")
		}
		b := a.Bound(now)
		if !b.Limited || b.N != 0 || b.Next.Sub(now) > want {
			t.Errorf("the lanes may let out %d, again in %v; want none before %v at most", b.N, b.Next.Sub(now), want)
		}
		now = now.Add(want)
		if b := a.Bound(now); b.N != 1 {
			t.Errorf("after %v the lanes may let out %d, want 1", want, b.N)
		}
	}
}

func TestAbsences_OthersOfTheKeyComeOutOfTheLanesFasterAndFaster(t *testing.T) {
	var a Absences
	now := time.Unix(1000, 0)
	a.Missed("a", "typo", time.Second, now)
	now = now.Add(time.Second)
	for want := 1; want <= 128; want *= 2 {
		if b := a.Bound(now); b.N != want {
			t.Fatalf("the lanes may let out %d, want %d", b.N, want)
		}
		a.Met("well", now)
	}
	a.Enter("b", "typo", now)
	if b := a.Bound(now); b.N != 0 {
		t.Errorf("after one was turned away the lanes may let out %d, want none for a second", b.N)
	}
}

func TestAbsences_NeverKeepAKeyShutForLongerThanAProbeTakes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var a Absences
		now := time.Unix(1000, 0)
		inHand := map[int]string{} // the operations in hand, by what they go for
		for n := range rapid.IntRange(1, 60).Draw(t, "steps") {
			subject := rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, "subject")
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0:
				if _, ok := a.Enter(n, subject, now); ok {
					every := rapid.SampledFrom([]time.Duration{0, time.Second}).Draw(t, "every")
					if _, probes := a.Missed(n, subject, every, now); probes {
						inHand[n] = subject
					}
				}
			case 1:
				a.Met(subject, now)
			case 2:
				for op := range inHand {
					a.Leave(op)
					delete(inHand, op)
					break
				}
			}
			now = now.Add(time.Duration(rapid.IntRange(0, 5000).Draw(t, "pause")) * time.Millisecond)
			if b := a.Bound(now); b.Limited && b.N == 0 && b.Next.Sub(now) > 15*time.Second {
				t.Fatalf("the lanes stay shut for %v, want 15s at most", b.Next.Sub(now))
			}
		}
		for op := range inHand {
			a.Leave(op)
		}
		if n := a.Probers(); n != 0 {
			t.Fatalf("%d probers after all have left, want 0", n)
		}
	})
}
