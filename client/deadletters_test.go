package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rebound-mq/rebound/client"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/internal/testkit"
)

// bury makes a dead letter with each event id and returns the operation ids.
func (r *rig) bury(service string, ids ...string) []string {
	r.t.Helper()
	batch := make([]client.Submission, len(ids))
	for i, id := range ids {
		batch[i] = client.Submission{Service: service, Operation: "op", EventID: id, Data: []byte(id), Err: &client.Error{Code: "404"}}
	}
	receipts, err := r.SubmitBatch(ctx(r.t), batch)
	if err != nil {
		r.t.Fatal(err)
	}
	out := make([]string, len(ids))
	for i := range receipts {
		out[i] = receipts[i].ID
	}
	testkit.Eventually(r.t, patience, "the operations are dead letters", func() bool {
		n := 0
		for _, d := range r.letters(client.DeadLetterFilter{Service: service}) {
			if slices.Contains(out, d.ID) {
				n++
			}
		}
		return n == len(out)
	})
	return out
}

func (r *rig) letters(f client.DeadLetterFilter) []*events.DeadLetter {
	r.t.Helper()
	var all []*events.DeadLetter
	for d, err := range r.DeadLetters().List(ctx(r.t), f) {
		if err != nil {
			r.t.Fatal(err)
		}
		all = append(all, d)
	}
	return all
}

func TestDeadLetters_AreListedAndRead(t *testing.T) {
	t.Parallel()
	r := newRig(t, swift)
	ids := append(r.bury("a", "1", "2"), r.bury("b", "3")...)
	for _, tc := range []struct {
		filter client.DeadLetterFilter
		want   int
	}{
		{client.DeadLetterFilter{}, 3},
		{client.DeadLetterFilter{Service: "a"}, 2},
		{client.DeadLetterFilter{IDs: ids[1:]}, 2},
		{client.DeadLetterFilter{IDs: ids, Service: "b"}, 1},
		{client.DeadLetterFilter{ErrorCode: "404", Limit: 2}, 2},
		{client.DeadLetterFilter{ErrorCode: "503"}, 0},
		{client.DeadLetterFilter{Reason: events.ReasonNotRetryable}, 3},
		{client.DeadLetterFilter{Since: time.Now().Add(time.Hour)}, 0},
		{client.DeadLetterFilter{After: r.letters(client.DeadLetterFilter{})[1].Sequence}, 1},
	} {
		if got := r.letters(tc.filter); len(got) != tc.want {
			t.Errorf("%+v selects %d dead letters, want %d", tc.filter, len(got), tc.want)
		}
	}
	d, err := r.DeadLetters().Get(ctx(t), ids[0])
	if err != nil || d.ID != ids[0] || string(d.Data) != "1" || d.Reason != events.ReasonNotRetryable || d.ErrorCode() != "404" {
		t.Errorf("dead letter %s is %+v, %v", ids[0], d, err)
	}
	if _, err := r.DeadLetters().Get(ctx(t), strings.Repeat("0", 32)); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("a missing dead letter gives %v, want ErrNotFound", err)
	}
	if _, err := r.DeadLetters().Get(ctx(t), "x"); err == nil || errors.Is(err, client.ErrNotFound) {
		t.Errorf("an invalid id gives %v, want an error that says so", err)
	}
}

func TestDeadLetters_AreReplayed(t *testing.T) {
	t.Parallel()
	r := newRig(t, swift)
	var calls atomic.Int64
	r.worker(client.WorkerConfig{Service: "a", Operation: "op"}, func(_ context.Context, req *client.Request) error {
		if req.Replays != 1 || req.Attempt != 1 {
			t.Errorf("a replay came as attempt %d of replay %d, want 1 of 1", req.Attempt, req.Replays)
		}
		calls.Add(1)
		return nil
	})
	letters := r.DeadLetters()
	ids := make([]string, 300)
	for i := range ids {
		ids[i] = fmt.Sprint(i)
	}
	ids = r.bury("a", ids...)
	r.bury("b", "other")
	if err := letters.Replay(ctx(t), ids[0]); err != nil {
		t.Fatal(err)
	}
	if n, err := letters.ReplayAll(ctx(t), client.DeadLetterFilter{}); n != 0 || !errors.Is(err, client.ErrFilterTooWide) {
		t.Errorf("replaying everything gives %d, %v, want ErrFilterTooWide", n, err)
	}
	if n, err := letters.ReplayAll(ctx(t), client.DeadLetterFilter{Service: "a"}); n < 299 || n > 300 || err != nil {
		t.Errorf("replaying all of a gives %d, %v, want the 299 others at least", n, err)
	}
	r.outcomes(300, client.OutcomeFilter{Service: "a", Name: events.RetrySuccess})
	testkit.Eventually(t, patience, "the dead letters of a are gone", func() bool { return len(r.letters(client.DeadLetterFilter{})) == 1 })
	if calls.Load() != 300 {
		t.Errorf("the target was called %d times, want once for each of 300", calls.Load())
	}
	if err := letters.Replay(ctx(t), ids[0]); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("replaying a removed dead letter gives %v, want ErrNotFound", err)
	}
}

func TestDeadLetters_TruncatedOneIsNotReplayed(t *testing.T) {
	t.Parallel()
	r := newRig(t, swift)
	d := events.DeadLetter{ID: strings.Repeat("a", 32), Service: "a", Operation: "op", Reason: events.ReasonRejected, DiedAt: time.Now(), Truncated: 100}
	m, err := wire.EncodeDeadLetter(events.Subjects{}, &d)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := testkit.JetStream(t, r.nc).PublishMsg(ctx(t), m); err != nil {
		t.Fatal(err)
	}
	if err := r.DeadLetters().Replay(ctx(t), d.ID); !errors.Is(err, client.ErrTruncated) {
		t.Errorf("got %v, want ErrTruncated", err)
	}
	if n, err := r.DeadLetters().ReplayAll(ctx(t), client.DeadLetterFilter{Service: "a"}); n != 0 || err != nil {
		t.Errorf("replaying all gives %d, %v, want 0", n, err)
	}
}

func TestDeadLetters_AreDiscarded(t *testing.T) {
	t.Parallel()
	r := newRig(t, swift)
	ids := r.bury("a", "1", "2", "3")
	r.bury("b", "4")
	letters := r.DeadLetters()
	if err := letters.Discard(ctx(t), ids[0]); err != nil {
		t.Fatal(err)
	}
	if err := letters.Discard(ctx(t), ids[0]); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("discarding it again gives %v, want ErrNotFound", err)
	}
	if n, err := letters.DiscardAll(ctx(t), client.DeadLetterFilter{}); n != 0 || !errors.Is(err, client.ErrFilterTooWide) {
		t.Errorf("discarding everything gives %d, %v, want ErrFilterTooWide", n, err)
	}
	if n, err := letters.DiscardAll(ctx(t), client.DeadLetterFilter{Service: "a"}); n != 2 || err != nil {
		t.Errorf("discarding all of a gives %d, %v, want 2", n, err)
	}
	if got := r.letters(client.DeadLetterFilter{}); len(got) != 1 || got[0].Service != "b" {
		t.Errorf("%d dead letters are left, want that of b", len(got))
	}
}

func TestClient_HealthIsReportedAndRead(t *testing.T) {
	t.Parallel()
	r := newRig(t, swift)
	cpu := 91.0
	if err := r.ReportHealth(ctx(t), "billing", events.HealthReport{CPUUtilization: &cpu}); err != nil {
		t.Fatal(err)
	}
	r.worker(charge, func(context.Context, *client.Request) error { return nil })
	if _, err := r.Submit(ctx(t), client.Submission{Service: "billing", Operation: "charge", Err: errBusy}); err != nil {
		t.Fatal(err)
	}
	r.outcomes(1, client.OutcomeFilter{})
	all, err := r.FetchHealth(ctx(t))
	if err != nil || len(all) != 1 || all[0].ServiceType != "billing" || all[0].CPUUtilization == nil || *all[0].CPUUtilization != 91 || all[0].Samples != 1 {
		t.Errorf("the health is %+v, %v, want one attempt at billing with CPU at 91 %%", all, err)
	}
	most := 1e12
	if err := r.ReportHealth(ctx(t), "billing", events.HealthReport{CPUUtilization: &most}); err == nil {
		t.Error("a CPU utilisation of 1e12 % is reported, want an error")
	}
}

func TestExecute_GoesByTheHealthThatItsProcessReports(t *testing.T) {
	t.Parallel()
	r := newRig(t, `
connection_pool: {baseDelay: 1ms, jitterType: none}
`)
	acquire := &client.Call{Service: "connection_pool", Operation: "acquire_connection"}
	pool := 100.0
	// A context without a deadline, as a periodic reporter uses.
	if err := r.ReportHealth(t.Context(), "connection_pool", events.HealthReport{PoolUtilization: &pool}); err != nil {
		t.Fatal(err)
	}
	fn, _ := failing(1, &client.Error{Code: "POOL_EXHAUSTED"})
	if _, err := client.Execute(ctx(t), r.Client, acquire, fn); err != nil {
		t.Fatal(err)
	}
	closeClient(t, r.Client)
	var decision events.Scheduled
	for _, m := range r.published("retry.event.retryScheduled.>") {
		if err := json.Unmarshal(m.Data, &decision); err != nil {
			t.Fatal(err)
		}
	}
	if got := decision.Factors["pool"]; got != 2 {
		t.Errorf("the pool factor of a full pool is %v, want 2; the decision is %+v", got, decision)
	}
	if got := r.LocalHealth(); len(got) != 1 || got[0].PoolUtilization == nil || *got[0].PoolUtilization != 100 {
		t.Errorf("the health of the services is %+v, want that of a full pool", got)
	}
}

func TestNew_AccessToJetStreamMustBelongToTheConnection(t *testing.T) {
	t.Parallel()
	url := testkit.Server(t).ClientURL()
	one, two := testkit.Connect(t, url), testkit.Connect(t, url)
	if _, err := client.New(ctx(t), client.Config{Conn: one, JetStream: testkit.JetStream(t, two), Prefix: "a.b"}); err == nil ||
		!strings.Contains(err.Error(), "another connection") || !strings.Contains(err.Error(), "prefix") {
		t.Errorf("got %v, want both problems of the configuration", err)
	}
	c := connected(t, client.Config{JetStream: testkit.JetStream(t, two)})
	if _, err := c.Submit(ctx(t), client.Submission{Service: "a", Operation: "b"}); !errors.Is(err, client.ErrNoStream) {
		t.Errorf("with JetStream alone Submit gives %v, want it to use the connection", err)
	}
}
