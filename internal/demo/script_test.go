package demo

import (
	"fmt"
	"regexp"
	"testing"
	"time"
)

func TestScript_SameSeedGivesTheSameBehaviour(t *testing.T) {
	a, b, other := behaviour{1, time.Second}, behaviour{1, time.Second}, behaviour{2, time.Second}
	differ := false
	for n := range 200 {
		id := a.deliveryID(n)
		if id != b.deliveryID(n) {
			t.Fatalf("webhook %d has two ids", n)
		}
		for _, p := range defaultScript {
			x, y, z := a.answer(p.mood, id, 3, true), b.answer(p.mood, id, 3, true), other.answer(p.mood, id, 3, true)
			if x != y {
				t.Fatalf("a %s target answers %+v and %+v", p.mood, x, y)
			}
			differ = differ || x != z
		}
	}
	if !differ {
		t.Error("another seed makes no difference")
	}
	once, again, another := fmt.Sprint(defaultScript.seeded(1)), fmt.Sprint(defaultScript.seeded(1)), fmt.Sprint(defaultScript.seeded(2))
	if once != again || once == another {
		t.Error("the script does not depend on the seed")
	}
}

func TestBehaviour_NamesDeliveriesLikeGitHub(t *testing.T) {
	uuid := regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	if id := (behaviour{}).deliveryID(7); !uuid.MatchString(id) {
		t.Errorf("id %q is no UUID", id)
	}
}

func TestBehaviour_EachMoodHasItsWayToFail(t *testing.T) {
	const n = 2000
	b := behaviour{5, time.Second}
	codes := func(m mood, spare bool) map[string]int {
		got := make(map[string]int)
		for i := range n {
			switch a := b.answer(m, b.deliveryID(i), 2, spare); {
			case a.silent:
				got["silent"]++
			case a.after >= b.timeout:
				got["late"]++
			case a.code == "":
				got["accepted"]++
			default:
				got[a.code]++
				if (a.code == "429") != (a.retryAfter >= time.Second) {
					t.Errorf("code %s has the Retry-After %s", a.code, a.retryAfter)
				}
			}
		}
		return got
	}
	for _, c := range []struct {
		mood     mood
		spare    bool
		code     string
		from, to float64
	}{
		{healthy, true, "accepted", 0.90, 0.96},
		{healthy, true, "422", 0.02, 0.04},
		{recovered, true, "accepted", 0.90, 0.96},
		{unavailable, true, "503", 1, 1},
		{hanging, true, "silent", 0.2, 0.3},
		{unavailable, true, "422", 0, 0},
		{rateLimited, false, "429", 1, 1},
		{rateLimited, true, "accepted", 0.93, 0.98},
		{slow, true, "late", 0.07, 0.13},
		{slow, true, "accepted", 0.82, 0.92},
	} {
		if share := float64(codes(c.mood, c.spare)[c.code]) / n; share < c.from || share > c.to {
			t.Errorf("a %s target gives %s to %.3f, want %.3f to %.3f", c.mood, c.code, share, c.from, c.to)
		}
	}
}

func TestBehaviour_BadWebhookStaysBad(t *testing.T) {
	b := behaviour{3, time.Second}
	bad := 0
	for i := range 500 {
		id := b.deliveryID(i)
		if b.answer(healthy, id, 1, true).code != "422" {
			continue
		}
		bad++
		for attempt, m := range []mood{recovered, slow, rateLimited, healthy} {
			if a := b.answer(m, id, attempt+2, true); a.code != "422" {
				t.Errorf("attempt %d at a bad webhook gets %+v", attempt+2, a)
			}
		}
	}
	if bad == 0 {
		t.Error("no webhook is bad")
	}
}

func TestScript_PaceMakesEnoughFailBeforeTheTargetGetsBetter(t *testing.T) {
	s := script{{healthy, 10 * time.Second}, {down, 2 * time.Second}, {recovered, time.Minute}}
	if got := s.pace(234); got < 99.9 || got > 100.1 {
		t.Errorf("for 234 failures it takes %.1f deliveries a second, want 100", got)
	}
}

func TestScript_EachMoodIsExplained(t *testing.T) {
	for _, p := range defaultScript {
		if means[p.mood] == "" || failing[p.mood] == 0 {
			t.Errorf("mood %s means %q and fails a share of %v", p.mood, means[p.mood], failing[p.mood])
		}
	}
}
