package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/deadletter"
	"github.com/rebound-mq/rebound/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// A script and policies that end soon.
var shortScript = script{
	{healthy, 400 * time.Millisecond},
	{rateLimited, 500 * time.Millisecond}, // before everything may have ended
	{down, 400 * time.Millisecond},
	{unavailable, 1500 * time.Millisecond},
	{back, 800 * time.Millisecond},
	{slow, 300 * time.Millisecond},
	{recovered, time.Second},
}

const shortPolicies = `
default:
  baseDelay: 40ms
  maxDelay: 600ms
  attemptTimeout: 2s
  circuitBreakerTimeout: 500ms
`

// short returns options of a run that ends soon, with its own payloads.
func short(t *testing.T, operations int) (Options, *testkit.Buffer) {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	payloads := make(map[string]string)
	for i := range 7 {
		payloads[fmt.Sprintf("push.%d.json", i)] = fmt.Sprintf(`{"ref": "refs/heads/%d", "text": "ü <&> \u00fc"}`, i)
		payloads[fmt.Sprintf("star/%d.json", i)] = fmt.Sprintf(`[%d]`, i)
	}
	out := new(testkit.Buffer)
	return Options{
		Operations: operations, Timeout: time.Minute, Seed: 1, Payloads: files(t, payloads), Out: out,
		script: shortScript, policies: shortPolicies,
	}, out
}

func stores(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(os.TempDir(), "rebound-demo-*"))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestRun_EveryOperationEndsAsItMust(t *testing.T) {
	o, out := short(t, 60)
	s, err := Run(context.Background(), o)
	if err != nil {
		t.Fatalf("the run failed: %v\n%s", err, out)
	}
	if s.Submitted != 60 || s.RetrySuccess+s.RetryFailed != 60 || s.DeadLetters != s.RetryFailed || len(s.Faults) > 0 || s.Unfinished > 0 {
		t.Errorf("the summary is %+v", s)
	}
	if s.Early != 0 || s.Redeliveries < 50 || s.Attempts.Max < 2 || s.RepeatedAttempts != 0 || s.Kept != "" {
		t.Errorf("the summary is %+v", s)
	}
	for _, want := range []string{
		"60 operations from", "Policy: the built-in default, but baseDelay 40ms, maxDelay 600ms,",
		"the target is healthy", "the target is down", "the target is unavailable", "the target is rate limited",
		"(no_responders)", "the breaker OPENS after", ": 503: the database is restarting", "the breaker CLOSES", " held: ",
		"submitted 60/60  waiting 0  held 0  in flight 0",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output does not say %q:\n%s", want, out)
		}
	}
	if left := stores(t); len(left) > 0 {
		t.Errorf("%q is left behind", left)
	}
}

func TestRun_NeedsNothingButItself(t *testing.T) {
	o, out := short(t, 20)
	o.Payloads, o.CacheDir, o.Environ = "", t.TempDir(), []string{"PATH=/nowhere"}
	s, err := Run(context.Background(), o)
	if err != nil {
		t.Fatalf("the run failed: %v\n%s", err, out)
	}
	if s.Submitted != 20 || s.Source != "a generator" || !strings.Contains(out.String(), "cannot be fetched: npm is not installed.") {
		t.Errorf("the summary is %+v\n%s", s, out)
	}
}

// tamper connects to the server of a running demo.
func tamper(t *testing.T, out *testkit.Buffer) jetstream.JetStream {
	t.Helper()
	url := regexp.MustCompile(`nats://\S+`)
	testkit.Eventually(t, 20*time.Second, "the URL of the server", func() bool { return url.MatchString(out.String()) })
	return testkit.JetStream(t, testkit.Connect(t, url.FindString(out.String())))
}

// first waits for a message in a stream and returns it.
func first(t *testing.T, js jetstream.JetStream, stream, subject string) (s jetstream.Stream, m *jetstream.RawStreamMsg) {
	t.Helper()
	testkit.Eventually(t, 30*time.Second, "a message on "+subject, func() bool {
		var err error
		if s, err = js.Stream(t.Context(), stream); err != nil {
			return false
		}
		m, err = s.GetMsg(t.Context(), 0, jetstream.WithGetMsgSubject(subject))
		return err == nil
	})
	return s, m
}

func TestRun_FailsUponALoss(t *testing.T) {
	o, out := short(t, 100)
	o.Timeout = 0 // it runs until interrupted, because a lost operation never ends
	type result struct {
		summary Summary
		err     error
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan result, 1)
	go func() {
		s, err := Run(ctx, o)
		ended <- result{s, err}
	}()
	js := tamper(t, out)
	names, subjects := events.Streams{}, events.Subjects{}

	// Remove a waiting operation.
	var lost string
	testkit.Eventually(t, 30*time.Second, "an operation that can be removed", func() bool {
		s, m := first(t, js, names.Waiting(), "retry.parked.>")
		lost = m.Subject[strings.LastIndex(m.Subject, ".")+1:]
		return s.DeleteMsg(t.Context(), m.Sequence) == nil
	})
	// Publish the success of an operation again.
	_, m := first(t, js, names.Outcomes(), subjects.Outcomes(events.RetrySuccess, "", ""))
	doubled := m.Header.Get(events.HeaderID)
	again := &nats.Msg{Subject: m.Subject, Header: nats.Header{}, Data: m.Data}
	if _, err := js.PublishMsg(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	// Discard a dead letter.
	first(t, js, names.Dead(), ">")
	var unburied string
	letters := deadletter.New(js, "")
	for d, err := range letters.List(t.Context(), events.DeadLetterFilter{Limit: 1}) {
		if err != nil {
			t.Fatal(err)
		}
		unburied = d.ID
		if err := letters.Discard(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}

	cancel()
	r := <-ended
	var faults *FaultsError
	if !errors.As(r.err, &faults) {
		t.Fatalf("the run ends with the error %v\n%s", r.err, out)
	}
	for id, kind := range map[string]Kind{lost: Lost, doubled: Doubled, unburied: Unburied} {
		if !slices.ContainsFunc(faults.Faults, func(f Fault) bool { return f.ID == id && f.Kind == kind }) {
			t.Errorf("operation %s is not found to be %s: %v", id, kind, faults.Faults)
		}
	}
	if kept := stores(t); len(kept) != 1 || kept[0] != r.summary.Kept {
		t.Errorf("the store is kept in %q, the summary says %q", kept, r.summary.Kept)
	}
	var printed strings.Builder
	if err := r.summary.Print(&printed); err != nil || !strings.Contains(printed.String(), lost+"  lost") {
		t.Errorf("the summary does not name %s as lost: %s", lost, &printed)
	}
}

func TestRun_EndlessEndsWellWhenItIsInterrupted(t *testing.T) {
	o, out := short(t, 0)
	o.Keep = true
	// Failed operations wait for longer than the run.
	o.policies = strings.NewReplacer("40ms", "1h", "600ms", "1h").Replace(shortPolicies)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	var s Summary
	go func() {
		var err error
		s, err = Run(ctx, o)
		ended <- err
	}()
	testkit.Eventually(t, 30*time.Second, "the target being down", func() bool { return strings.Contains(out.String(), "(no_responders)") })
	cancel()
	if err := <-ended; err != nil {
		t.Fatalf("the run failed: %v\n%s", err, out)
	}
	if s.Unfinished == 0 || s.Submitted != s.RetrySuccess+s.RetryFailed+s.Unfinished || s.Stopped == "" {
		t.Errorf("the summary is %+v", s)
	}
	for _, file := range []string{"jetstream", logName} {
		if _, err := os.Stat(filepath.Join(s.Kept, file)); err != nil {
			t.Errorf("%s was not kept: %v", file, err)
		}
	}
}

func TestRun_FailsWhenItHasNoTime(t *testing.T) {
	o, out := short(t, 500)
	o.Timeout = 700 * time.Millisecond
	s, err := Run(context.Background(), o)
	if !errors.Is(err, ErrUnfinished) || len(s.Faults) > 0 {
		t.Errorf("the run ends with the error %v and the faults %v\n%s", err, s.Faults, out)
	}
}

func TestRun_ChecksItsOptions(t *testing.T) {
	_, err := Run(context.Background(), Options{Operations: -1, Timeout: -1})
	if err == nil || !strings.Contains(err.Error(), "operations, -1, is negative") || !strings.Contains(err.Error(), "timeout -1ns is negative") {
		t.Errorf("the error is %v", err)
	}
}
