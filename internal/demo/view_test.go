package demo

import (
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/rebound-mq/rebound/events"
)

var (
	someTitle = title{source: "x", url: "nats://h:1", seed: 1, goal: 10, script: defaultScript}
	someFrame = frame{at: 2500 * time.Millisecond, mood: down, left: time.Second, counts: counts{Submitted: 8, Success: 2, Failed: 1, Waiting: 4, InFlight: 1}}
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
	if n := strings.Count(b.String(), "submitted 8/10  waiting 4  in flight 1  succeeded 2  failed 1"); n != 2 {
		t.Errorf("in two seconds the counts are shown %d times:\n%s", n, &b)
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
