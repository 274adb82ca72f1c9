package demo

import (
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/scheduler"
	"github.com/rebound-mq/rebound/scheduler/gate"
)

var (
	someTitle = title{source: "x", url: "nats://h:1", seed: 1, goal: 10, script: defaultScript}
	someFrame = frame{
		at: 2500 * time.Millisecond, mood: down, left: time.Second,
		now: noon, counts: counts{Submitted: 8, Success: 2, Failed: 1, Open: 5},
		standing: standing{
			gates: []scheduler.KeyReport{
				{Key: "github:code", Cause: gate.CauseBreaker, Shut: true, Next: noon.Add(1200 * time.Millisecond)},
				{Key: "github:issues", Report: gate.Report{InFlight: 1}},
			},
			held: map[string]int{"github:code": 3},
		},
	}
)

func TestLines_TellCountsMoodsAndTheFirstOfEachSort(t *testing.T) {
	var b strings.Builder
	l := newLines(&b, someTitle)
	f := someFrame
	for f.at = 0; f.at < 2*time.Second; f.at += 100 * time.Millisecond {
		l.show(f)
	}
	for range 3 {
		l.tell(happening{name: events.RetryScheduled, sort: "503", event: "push", text: "failed"})
	}
	if n := strings.Count(b.String(), "the target is down"); n != 1 {
		t.Errorf("the mood is shown %d times:\n%s", n, &b)
	}
	if n := strings.Count(b.String(), "submitted 8/10  waiting 1  held 3  in flight 1  succeeded 2  failed 1"); n != 2 {
		t.Errorf("in two seconds the counts are shown %d times:\n%s", n, &b)
	}
	if n := strings.Count(b.String(), "3 held: the breaker of github:code is open, next probe in 1.2s\n"); n != 2 {
		t.Errorf("in two seconds the reason is shown %d times:\n%s", n, &b)
	}
	if n := strings.Count(b.String(), "push: failed"); n != 1 {
		t.Errorf("three equal happenings are shown %d times:\n%s", n, &b)
	}
	if strings.Contains(b.String(), "\x1b") {
		t.Errorf("there are codes in plain lines: %q", &b)
	}
}

func TestScreen_FitsItsTerminal(t *testing.T) {
	codes := regexp.MustCompile("\x1b\\[[0-9;?]*[A-Za-z]")
	for _, size := range [][2]int{{80, 24}, {40, 24}, {200, 5}, {1, 1}} {
		for _, color := range []bool{true, false} {
			var b strings.Builder
			s := newScreen(&b, someTitle, func() (int, int) { return size[0], size[1] }, color)
			for range 30 {
				s.tell(happening{name: events.RetryFailed, event: strings.Repeat("é", 300), text: "ended \x1b[2J"})
			}
			s.show(someFrame)
			lines := strings.Split(strings.TrimSuffix(codes.ReplaceAllString(b.String(), ""), "\n"), "\n")
			if len(lines) > max(size[1]-1, 1) {
				t.Errorf("%d lines on a terminal of %d", len(lines), size[1])
			}
			for _, line := range lines {
				if n := utf8.RuneCountInString(strings.TrimPrefix(line, "\r")); n > size[0] {
					t.Errorf("a line of %d on a terminal of %d: %q", n, size[0], line)
				}
			}
			if strings.Contains(b.String(), "\x1b[2J") || strings.Contains(b.String(), "\x1b[1m") != (color && size[0] > 1) {
				t.Errorf("the codes are wrong with color %v: %q", color, &b)
			}
		}
	}
}

func TestScreen_IsRedrawnInPlaceAndLeftInOrder(t *testing.T) {
	var b strings.Builder
	s := newScreen(&b, someTitle, func() (int, int) { return 80, 24 }, false)
	s.show(someFrame)
	n := strings.Count(b.String(), "\n")
	b.Reset()
	s.close(someFrame)
	if !strings.HasPrefix(b.String(), "\x1b["+string(rune('0'+n/10))+string(rune('0'+n%10))+"A\r") {
		t.Errorf("after %d lines the next drawing begins with %.10q", n, b.String())
	}
	if !strings.HasSuffix(b.String(), showCursor+"\n") {
		t.Error("the cursor stays hidden")
	}
	if !strings.Contains(b.String(), "[down 1.0s]") || !strings.Contains(b.String(), "submitted 8/10") {
		t.Errorf("the mood or the counts are missing: %s", &b)
	}
}

func TestView_DescribesWhatHappened(t *testing.T) {
	about := events.About{Operation: "push"}
	for _, c := range []struct {
		got  happening
		want string
	}{
		{
			scheduledHappening(0, events.Scheduled{About: about, Attempt: 2, Error: events.Failure{Code: "503"}, DelayMs: 1234, Strategy: "exponential"}),
			"attempt 2 failed (503); again in 1.23s, exponential",
		},
		{
			endedHappening(0, events.Outcome{About: about, Outcome: events.RetrySuccess, Attempts: 4, ElapsedMs: 5250}),
			"succeeded at attempt 4, 5.25s after its first failure",
		},
		{
			endedHappening(0, events.Outcome{About: about, Outcome: events.RetryFailed, Attempts: 1, Reason: events.ReasonNotRetryable, Error: &events.Failure{Code: "422", Message: "bad"}}),
			"dead letter after 1 attempt, not_retryable (422 bad)",
		},
	} {
		if c.got.text != c.want || c.got.event != "push" {
			t.Errorf("the text is %q, want %q", c.got.text, c.want)
		}
	}
}

func TestFrame_SaysWhatIsWaitedFor(t *testing.T) {
	at := func(d time.Duration) time.Time { return noon.Add(d) }
	breakers := []scheduler.KeyReport{
		{Key: "github:code", Cause: gate.CauseBreaker, Shut: true, Next: at(2 * time.Second)},
		{Key: "github:issues", Cause: gate.CauseBreaker, Shut: true, Next: at(time.Second)},
	}
	for name, c := range map[string]struct {
		frame frame
		want  string
	}{
		"nothing": {frame{}, "nothing waits"},
		"two breakers": {
			frame{standing: standing{gates: breakers, held: map[string]int{"github:code": 5, "github:issues": 7}}},
			"12 held: the breakers of github:code and github:issues are open, next probe in 1.0s",
		},
		"a probe in flight": {
			frame{standing: standing{gates: []scheduler.KeyReport{{Key: "github:code", Cause: gate.CauseBreaker, Shut: true}}}},
			"0 held: the breaker of github:code is open, a probe looks now",
		},
		"an absent target": {
			frame{standing: standing{
				gates: []scheduler.KeyReport{{Key: "github:code", Cause: gate.CauseAbsent, Shut: true, Next: at(500 * time.Millisecond)}},
				held:  map[string]int{"github:code": 5},
			}},
			"5 held: nobody listens on github.code, next probe in 0.5s or when somebody does",
		},
		"a governor": {
			frame{standing: standing{
				gates: []scheduler.KeyReport{{Key: "github:code", Report: gate.Report{Governed: true, Rate: 40, InFlight: 2}, Held: 1}},
				held:  map[string]int{"github:code": 5},
			}},
			"5 held: the governor lets github:code out at 40 a second",
		},
		"in flight": {
			frame{counts: counts{Open: 3}, standing: standing{gates: []scheduler.KeyReport{{Key: "github:code", Report: gate.Report{InFlight: 3}}}}},
			"3 attempts in flight: the target has 2s to answer",
		},
		"parked":  {frame{counts: counts{Open: 3, NextDue: at(800 * time.Millisecond)}}, "3 wait for their next attempt, the first in 0.8s"},
		"not yet": {frame{counts: counts{Open: 3}}, "3 are about to be taken up"},
		"no answer": {
			frame{counts: counts{Open: 3}, standing: standing{problem: "timeout"}},
			"3 are about to be taken up; the service does not say more: timeout",
		},
	} {
		t.Run(name, func(t *testing.T) {
			c.frame.now = noon
			if got := c.frame.why(); got != c.want {
				t.Errorf("it says %q, want %q", got, c.want)
			}
		})
	}
}

func TestView_DescribesChangesOfABreaker(t *testing.T) {
	open := events.BreakerChange{
		Key: "github:code", From: "CLOSED", To: "OPEN", FailureCount: 5, LastError: "503: restarting", At: noon, NextAttemptTime: noon.Add(2 * time.Second),
	}
	failed := open
	failed.From = "HALF_OPEN"
	for want, e := range map[string]events.BreakerChange{
		"the breaker OPENS after 5 failures in a row: 503: restarting, next probe in 2.0s": open,
		"the probe failed, the breaker stays open: 503: restarting, next probe in 2.0s":    failed,
		"the breaker is half open: a probe looks whether the target is well":               {From: "OPEN", To: "HALF_OPEN"},
		"the breaker CLOSES: the probes succeeded, and what it held is let out":            {From: "HALF_OPEN", To: "CLOSED"},
	} {
		if got := breakerHappening(0, e).text; got != want {
			t.Errorf("the text is %q, want %q", got, want)
		}
	}
}
