package client_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/rebound-mq/rebound/client"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/testkit"
)

// end submits operations, one after the other, that end at once.
func (r *rig) end(service string, from, to int, err error) {
	r.t.Helper()
	for i := from; i <= to; i++ {
		fn, _ := failing(1, err)
		_, _ = client.Execute(ctx(r.t), r.Client, &client.Call{Service: service, Operation: "op"}, fn, client.WithEventID(fmt.Sprint(i)))
	}
}

// stored waits until n outcomes are stored.
func (r *rig) stored(n int) {
	r.t.Helper()
	testkit.Eventually(r.t, patience, fmt.Sprintf("%d outcomes are stored", n), func() bool { return len(r.published("retry.outcome.>")) >= n })
}

func TestOutcomes_AreFiltered(t *testing.T) {
	t.Parallel()
	r := newRig(t, swift)
	r.end("a", 1, 2, errBusy)
	r.end("b", 3, 4, errBusy)
	r.end("b", 5, 5, client.NotRetryable(errBusy))
	for _, tc := range []struct {
		filter client.OutcomeFilter
		want   string
	}{
		{client.OutcomeFilter{}, "1 2 3 4 5"},
		{client.OutcomeFilter{Service: "b"}, "3 4 5"},
		{client.OutcomeFilter{Service: "b", Name: events.RetrySuccess}, "3 4"},
		{client.OutcomeFilter{Operation: "op", Name: events.RetryFailed}, "5"},
	} {
		n := (len(tc.want) + 1) / 2
		var got string
		for _, o := range r.outcomes(n, tc.filter) {
			if got += o.EventID + " "; o.Sequence == 0 || o.StoredAt.IsZero() {
				t.Errorf("outcome %s has sequence %d and time %v", o.EventID, o.Sequence, o.StoredAt)
			}
		}
		if got != tc.want+" " {
			t.Errorf("%+v selects %s, want %s", tc.filter, got, tc.want)
		}
	}
}

func TestOutcomes_GoOnAfterASequence(t *testing.T) {
	t.Parallel()
	r := newRig(t, swift)
	r.end("a", 1, 4, errBusy)
	all := r.outcomes(4, client.OutcomeFilter{})
	for _, durable := range []string{"", "report"} {
		f := client.OutcomeFilter{Since: time.Unix(1, 0), After: all[1].Sequence, Durable: durable}
		if got := r.outcomes(2, f); got[0].EventID != "3" || got[1].EventID != "4" {
			t.Errorf("durable %q: after outcome 2 came %s and %s, want 3 and 4", durable, got[0].EventID, got[1].EventID)
		}
	}
}

func TestOutcomes_BeginWithTheNextAndEndWithTheContext(t *testing.T) {
	t.Parallel()
	r := newRig(t, swift)
	r.end("a", 1, 1, errBusy)
	r.stored(1)
	following, stop := context.WithCancel(ctx(t))
	defer stop()
	// The iteration has begun once the server has its consumer.
	stream, err := testkit.JetStream(t, r.nc).Stream(ctx(t), "RETRY_OUTCOMES")
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 10)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for o, err := range r.Outcomes(following, client.OutcomeFilter{}) {
			if err != nil {
				t.Errorf("the iteration gives %v", err)
				return
			}
			got <- o.EventID
		}
	}()
	testkit.Eventually(t, patience, "the iteration has begun", func() bool {
		info, err := stream.Info(ctx(t))
		return err == nil && info.State.Consumers == 1
	})
	r.end("a", 2, 3, errBusy)
	if first, second := <-got, <-got; first != "2" || second != "3" {
		t.Errorf("got outcomes %s and %s, want the later ones, 2 and 3", first, second)
	}
	stop()
	select {
	case <-done:
	case <-time.After(patience):
		t.Error("the iteration did not end with its context")
	}
}

func TestOutcomes_NoneComesAfterTheContextHasEnded(t *testing.T) {
	t.Parallel()
	r := newRig(t, swift)
	r.end("a", 1, 20, errBusy)
	r.stored(20)
	for _, durable := range []string{"", "report"} {
		for i := range 10 {
			following, stop := context.WithCancel(ctx(t))
			n := 0
			for _, err := range r.Outcomes(following, client.OutcomeFilter{Since: time.Unix(1, 0), Durable: durable}) {
				if err != nil {
					t.Fatal(err)
				}
				n++
				stop()
			}
			stop()
			if n != 1 {
				t.Errorf("durable %q, iteration %d: %d outcomes were yielded, want only the one during which the context ended", durable, i, n)
			}
		}
	}
}

func TestOutcomes_DurableIterationGoesOnWhereItEnded(t *testing.T) {
	t.Parallel()
	r := newRig(t, swift)
	r.end("a", 1, 6, errBusy)
	r.stored(6)
	f := client.OutcomeFilter{Service: "a", Since: time.Unix(1, 0), Durable: "billing-report"}
	seen := map[string]int{}
	take := func(n int) {
		t.Helper()
		for o, err := range r.Outcomes(ctx(t), f) {
			if err != nil {
				t.Fatal(err)
			}
			seen[o.EventID]++
			if n--; n == 0 {
				break
			}
		}
	}
	func() {
		defer func() { _ = recover() }()
		for range r.Outcomes(ctx(t), f) {
			panic("the body fails")
		}
	}()
	take(2)
	take(1)
	take(3)
	for i := 1; i <= 6; i++ {
		if n := seen[fmt.Sprint(i)]; n != 1 {
			t.Errorf("outcome %d came %d times in all iterations together, want once; all: %v", i, n, seen)
		}
	}
	f.Service = "b"
	for _, err := range r.Outcomes(ctx(t), f) {
		if err == nil {
			t.Error("the same name with another filter gives outcomes, want an error")
		}
	}
}

func TestOutcomes_FilterIsChecked(t *testing.T) {
	t.Parallel()
	r := newRig(t, swift)
	for _, f := range []client.OutcomeFilter{{Service: "a.b"}, {Operation: ">"}, {Name: "retryScheduled"}, {Durable: "a b"}} {
		n := 0
		for _, err := range r.Outcomes(ctx(t), f) {
			if n++; err == nil {
				t.Errorf("%+v gives an outcome, want an error", f)
			}
		}
		if n != 1 {
			t.Errorf("%+v gives %d results, want one error", f, n)
		}
	}
}
