package events_test

import (
	"strings"
	"testing"
	"time"

	"github.com/rebound-mq/rebound/events"
)

// received is when the stream stored a submission.
var received = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const seedID = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"

func FuzzParseRetryAfter(f *testing.F) {
	for _, s := range []string{
		"30", "1e9", "1.5", "0x10", "Wed, 21 Oct 2026 07:28:00 GMT", "2026-03-01T12:00:30Z", "-0", "NaN", "Inf", "1e-400", " 5 ", "0000-01-01T00:00:00+01:00",
		"Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994", "2027-03-02T12:00:00Z", "1_000",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		at, err := events.ParseRetryAfter(s, received)
		if err != nil {
			if !at.IsZero() || len(err.Error()) > 1000 {
				t.Fatalf("%q gives %s and the error %v", s, at, err)
			}
			return
		}
		if at.After(received.Add(events.MaxRetryAfter)) || !at.IsZero() && (at.Year() < 1 || at.Year() > 9999) {
			t.Fatalf("%q became %s", s, at)
		}
		if at.IsZero() {
			return
		}
		again, err := events.ParseRetryAfter(at.UTC().Format(time.RFC3339Nano), received)
		if err != nil || !again.Equal(at) {
			t.Fatalf("%q is %s, which is read as %s, %v", s, at, again, err)
		}
	})
}

func FuzzSubjects(f *testing.F) {
	for _, s := range []string{
		"retry.submit.a.b", "retry.report.a.b", "retry.health.a", "retry.instance.a", "retry.held.high.a.b." + seedID, "retry.due.low.a.b.c", "retry.dead.a.b.c",
		"retry", "retry.", "retry.held", "retry.held.x", "", ".", "a b.c", "*.>", "$JS.API.>", "retry.work.a.b", "_INBOX.x", "rebound.x", "a..b", "a:b", "é.b", "-a:b", strings.Repeat("a", 300),
	} {
		f.Add(s, "")
		f.Add(s, "x1")
	}
	f.Fuzz(func(t *testing.T, text, prefix string) {
		s := events.Subjects{Prefix: prefix}
		for kind, split := range map[string]func(string) (string, string, error){"submit": s.SplitSubmit, "report": s.SplitReport} {
			service, operation, err := split(text)
			if err != nil {
				continue
			}
			if whole := strings.TrimSuffix(s.Submissions(), ".submit.>") + "." + kind + "." + service + "." + operation; whole != text || events.CheckName(service) != nil || events.CheckName(operation) != nil {
				t.Errorf("%q is split into %q and %q", text, service, operation)
			}
		}
		if service, err := s.SplitHealth(text); err == nil && (s.Health(service) != text || events.CheckName(service) != nil) {
			t.Errorf("%q is of the service %q", text, service)
		}
		if id, err := s.SplitInstance(text); err == nil && (s.Instance(id) != text || events.CheckName(id) != nil) {
			t.Errorf("%q is of the instance %q", text, id)
		}
		if service, operation, err := events.SplitKey(text); err == nil {
			if events.Key(service, operation) != text {
				t.Errorf("%q is split into %q and %q", text, service, operation)
			}
			for _, p := range events.Priorities {
				due, slot := s.Release(s.Held(p, service, operation, seedID))
				if due != s.Due(p, service, operation, seedID) || slot != s.Slot(service, operation, seedID) {
					t.Errorf("the held operation of %q is released to %q with the slot %q", text, due, slot)
				}
			}
		}
		s.Release(text)
		if s.CheckTarget(text) != nil {
			return
		}
		tokens := strings.Split(text, ".")
		if len(text) > 255 || strings.ContainsAny(text, " \t\r\n\x00") || strings.HasPrefix(text, "$") || strings.HasPrefix(text, "_INBOX.") ||
			strings.Contains("."+text+".", ".*.") || strings.Contains("."+text+".", ".>.") || strings.Contains("."+text+".", "..") ||
			tokens[0] == strings.TrimSuffix(s.Submissions(), ".submit.>") && !s.IsWork(text+".") {
			t.Errorf("%q may be a target", text)
		}
	})
}
