package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/rebound-mq/rebound/client"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/testkit"
)

var charge = client.WorkerConfig{Service: "billing", Operation: "charge"}

// ask sends a request and returns the reply.
func (r *rig) ask(m *nats.Msg) *nats.Msg {
	r.t.Helper()
	reply, err := r.nc.RequestMsgWithContext(ctx(r.t), m)
	if err != nil {
		r.t.Fatalf("asking %s: %v", m.Subject, err)
	}
	return reply
}

func TestWorker_AnswersByTheConventionOfMicro(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		handle client.Handler
		want   nats.Header
		data   string
	}{
		"success": {func(context.Context, *client.Request) error { return nil }, nats.Header{}, ""},
		"an answer": {func(_ context.Context, r *client.Request) error {
			r.SetReply([]byte("done"), nats.Header{"X": {"y"}})
			return nil
		}, nats.Header{"X": {"y"}}, "done"},
		"a failure with a code":    {func(context.Context, *client.Request) error { return errBusy }, nats.Header{micro.ErrorCodeHeader: {"503"}, micro.ErrorHeader: {"busy"}}, ""},
		"a failure without a code": {func(context.Context, *client.Request) error { return errors.New("hm") }, nats.Header{micro.ErrorCodeHeader: {"500"}, micro.ErrorHeader: {"hm"}}, ""},
		"a failure without words":  {func(context.Context, *client.Request) error { return errors.New("") }, nats.Header{micro.ErrorCodeHeader: {"500"}, micro.ErrorHeader: {"failed"}}, ""},
		"a Retry-After": {func(context.Context, *client.Request) error {
			return client.RetryAfter(errBusy, 1500*time.Millisecond)
		}, nats.Header{micro.ErrorCodeHeader: {"503"}, micro.ErrorHeader: {"busy"}, events.HeaderRetryAfter: {"2"}}, ""},
		"a panic": {func(context.Context, *client.Request) error { panic("a bug") }, nats.Header{micro.ErrorCodeHeader: {"panic"}, micro.ErrorHeader: {"panic: a bug"}}, ""},
		"a goroutine that exits": {func(context.Context, *client.Request) error {
			runtime.Goexit()
			return nil
		}, nats.Header{micro.ErrorCodeHeader: {"500"}, micro.ErrorHeader: {"the handler did not return"}}, ""},
		"a handler that is too slow": {func(ctx context.Context, _ *client.Request) error {
			<-ctx.Done()
			return ctx.Err()
		}, nats.Header{micro.ErrorCodeHeader: {"timeout"}, micro.ErrorHeader: {"context deadline exceeded"}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, swift+"billing: {attemptTimeout: 50ms}\n")
			r.worker(charge, tc.handle)
			reply := r.ask(nats.NewMsg("billing.charge"))
			got, want := mustJSON(t, reply.Header), mustJSON(t, tc.want)
			if reply.Header == nil {
				got = "{}"
			}
			if got != want || string(reply.Data) != tc.data {
				t.Errorf("answered %s %q, want %s %q", got, reply.Data, want, tc.data)
			}
		})
	}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestWorker_SubmitsFailedFirstAttemptAndRecognisesItLater(t *testing.T) {
	t.Parallel()
	r := newRig(t, swift)
	var mu sync.Mutex
	var got []client.Request
	config := charge
	config.SubmitFailures = true
	w := r.worker(config, func(ctx context.Context, req *client.Request) error {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, *req)
		if client.AttemptFrom(ctx) != req.Attempt {
			t.Errorf("the context is of attempt %d, the request of %d", client.AttemptFrom(ctx), req.Attempt)
		}
		if req.Attempt < 3 {
			return &client.Error{Code: "503", Message: "busy, 50% ü"}
		}
		return nil
	})
	request := nats.NewMsg("billing.charge")
	request.Data, request.Header = []byte("payload"), nats.Header{"X-Tenant": {"t"}, "Nats-Msg-Id": {"inv-1"}}
	reply := r.ask(request)
	id := events.OperationID("/rebound/client/"+hostname(t), "inv-1", "billing", "charge")
	if reply.Header.Get(micro.ErrorCodeHeader) != "503" || reply.Header.Get(events.HeaderID) != id {
		t.Errorf("answered %v, want the failure with the operation's id %s", reply.Header, id)
	}
	o := r.outcomes(1, client.OutcomeFilter{})[0]
	if o.ID != id || o.Outcome.Outcome != events.RetrySuccess || o.Attempts != 3 || o.Target != "billing.charge" {
		t.Errorf("the outcome is %+v, want a success at attempt 3", o)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(got) != 3 {
		t.Fatalf("%d attempts were made, want 3", len(got))
	}
	for i, req := range got {
		if req.Attempt != i+1 || req.Redelivered() != (i > 0) || string(req.Data) != "payload" || req.Header.Get("X-Tenant") != "t" {
			t.Errorf("attempt %d came as %+v", i+1, req)
		}
	}
	if m := got[1].Header.Get("ce-errormessage"); m != "busy%2C%2050%25%20%C3%BC" && m != "busy,%2050%25%20%C3%BC" {
		t.Errorf("attempt 2 has the message %q", m)
	}
	if s := w.Stats(); s != (client.WorkerStats{Succeeded: 1, Failed: 2, Submitted: 1}) {
		t.Errorf("the statistics are %+v, want 1 success, 2 failures, 1 submission", s)
	}
}

func TestWorker_SubmitsRetryableFailures(t *testing.T) {
	t.Parallel()
	r := newRig(t, swift)
	config := charge
	config.SubmitFailures = true
	w := r.worker(config, func(_ context.Context, req *client.Request) error {
		if req.Redelivered() {
			return nil
		}
		return &client.Error{Code: req.Header.Get("X-Code")}
	})
	message := func(code string) *nats.Msg {
		return &nats.Msg{Subject: "billing.charge", Header: nats.Header{"X-Code": {code}}}
	}
	if reply := r.ask(message("404")); reply.Header.Get(events.HeaderID) != "" {
		t.Errorf("a failure that is not retryable was answered with %v, want it not to be submitted", reply.Header)
	}
	event := message("503")
	for k, v := range map[string]string{"ce-specversion": "1.0", "ce-id": "e-1", "ce-source": "/shop", "ce-type": "shop.ordered", "ce-tenant": "t", "CE-Attempt": "7", "Ce-Target": "elsewhere"} {
		event.Header[k] = []string{v}
	}
	if reply := r.ask(event); reply.Header.Get(events.HeaderID) != events.OperationID("/shop", "e-1", "billing", "charge") {
		t.Errorf("a CloudEvent was submitted as %q, want its own source and id", reply.Header.Get(events.HeaderID))
	}
	if err := r.nc.PublishMsg(message("404")); err != nil {
		t.Fatal(err)
	}
	outcomes := r.outcomes(2, client.OutcomeFilter{})
	byReason := map[events.Reason]client.Outcome{}
	for _, o := range outcomes {
		byReason[o.Reason] = o
	}
	if o := byReason[""]; o.EventID != "e-1" || o.Source != "/shop" || o.Attempts != 2 {
		t.Errorf("the CloudEvent ended as %+v, want a success at attempt 2", o)
	}
	if o := byReason[events.ReasonNotRetryable]; o.Error == nil || o.Error.Code != "404" {
		t.Errorf("the operation without a reply subject ended as %+v, want a dead letter that is not retryable", o)
	}
	if s := w.Stats(); s.Submitted != 2 {
		t.Errorf("%d operations were submitted, want 2", s.Submitted)
	}
}

func TestWorker_BoundsItsHandlers(t *testing.T) {
	t.Parallel()
	r := newRig(t, swift)
	config := charge
	config.Concurrency = 3
	var inFlight, most atomic.Int64
	release := make(chan struct{})
	w := r.worker(config, func(context.Context, *client.Request) error {
		n := inFlight.Add(1)
		defer inFlight.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		<-release
		return nil
	})
	var asked sync.WaitGroup
	for range 10 {
		asked.Go(func() {
			if _, err := r.nc.RequestWithContext(ctx(t), "billing.charge", nil); err != nil {
				t.Errorf("asking: %v", err)
			}
		})
	}
	testkit.Eventually(t, patience, "3 handlers are at work", func() bool { return inFlight.Load() == 3 && w.Stats().InFlight == 3 })
	close(release)
	asked.Wait()
	if most.Load() != 3 {
		t.Errorf("%d handlers were at work at once, want 3", most.Load())
	}
}

func TestWorker_StopWaitsForHandlersAndThenCutsThemOff(t *testing.T) {
	t.Parallel()
	r := newRig(t, swift)
	begun := make(chan struct{})
	w, err := r.StartWorker(ctx(t), charge, func(ctx context.Context, _ *client.Request) error {
		close(begun)
		<-ctx.Done()
		return context.Cause(ctx)
	})
	if err != nil {
		t.Fatal(err)
	}
	reply := make(chan *nats.Msg, 1)
	sub, err := r.nc.ChanSubscribe("answers", reply)
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Unsubscribe()
	if err := r.nc.PublishMsg(&nats.Msg{Subject: "billing.charge", Reply: "answers"}); err != nil {
		t.Fatal(err)
	}
	<-begun
	short, cancel := context.WithCancel(ctx(t))
	cancel()
	if err := w.Stop(short); !errors.Is(err, context.Canceled) {
		t.Errorf("Stop returned %v, want that it was cut off", err)
	}
	if m := <-reply; m.Header.Get(micro.ErrorCodeHeader) != "canceled" {
		t.Errorf("the handler that was cut off answered %v, want canceled", m.Header)
	}
	if err := w.Stop(ctx(t)); err != nil {
		t.Errorf("a second Stop returned %v, want nil", err)
	}
	if _, err := r.nc.RequestWithContext(ctx(t), "billing.charge", nil); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("after Stop a request gives %v, want no responders", err)
	}
}

func TestWorker_AnswersRequestsNotBegunBeforeStopAsUnavailable(t *testing.T) {
	t.Parallel()
	r := newRig(t, swift)
	config := charge
	config.Concurrency = 1
	begun, release := make(chan struct{}), make(chan struct{})
	w, err := r.StartWorker(ctx(t), config, func(context.Context, *client.Request) error {
		close(begun)
		<-release
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	replies := make(chan *nats.Msg, 3)
	sub, err := r.nc.ChanSubscribe("answers", replies)
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Unsubscribe()
	for range 3 {
		if err := r.nc.PublishMsg(&nats.Msg{Subject: "billing.charge", Reply: "answers"}); err != nil {
			t.Fatal(err)
		}
	}
	<-begun
	stopped := make(chan error, 1)
	go func() { stopped <- w.Stop(ctx(t)) }()
	testkit.Eventually(t, patience, "the worker takes no more", func() bool {
		_, err := r.nc.RequestWithContext(ctx(t), "$SRV.PING.billing", nil)
		return errors.Is(err, nats.ErrNoResponders)
	})
	close(release)
	if err := <-stopped; err != nil {
		t.Errorf("Stop returned %v", err)
	}
	codes := map[string]int{}
	for range 3 {
		codes[(<-replies).Header.Get(micro.ErrorCodeHeader)]++
	}
	if codes[""] != 1 || codes["UNAVAILABLE"] != 2 {
		t.Errorf("answered with codes %v, want one success and two UNAVAILABLE", codes)
	}
}

func TestServe_EndsWithItsContext(t *testing.T) {
	t.Parallel()
	r := newRig(t, swift)
	serving, stop := context.WithCancel(ctx(t))
	done := make(chan error, 1)
	go func() {
		done <- r.Serve(serving, charge, func(context.Context, *client.Request) error { return nil })
	}()
	testkit.Eventually(t, patience, "the worker answers", func() bool {
		_, err := r.nc.RequestWithContext(ctx(t), "billing.charge", nil)
		return err == nil
	})
	stop()
	if err := <-done; err != nil {
		t.Errorf("Serve returned %v, want nil", err)
	}
}

func TestWorker_IsChecked(t *testing.T) {
	t.Parallel()
	r := newRig(t, swift)
	for name, config := range map[string]client.WorkerConfig{
		"no names":            {},
		"a target of Rebound": {Service: "a", Operation: "b", Target: "retry.submit.a.b"},
		"a negative bound":    {Service: "a", Operation: "b", Concurrency: -1},
		"a version":           {Service: "a", Operation: "b", Version: "new"},
	} {
		if _, err := r.StartWorker(ctx(t), config, nil); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}

func TestWorker_StatsAreShownByMicro(t *testing.T) {
	t.Parallel()
	r := newRig(t, swift)
	r.worker(charge, func(context.Context, *client.Request) error { return nil })
	r.ask(nats.NewMsg("billing.charge"))
	var stats struct {
		Endpoints []struct {
			Subject string             `json:"subject"`
			Data    client.WorkerStats `json:"data"`
		} `json:"endpoints"`
	}
	if err := json.Unmarshal(r.ask(nats.NewMsg("$SRV.STATS.billing")).Data, &stats); err != nil {
		t.Fatal(err)
	}
	if len(stats.Endpoints) != 1 || stats.Endpoints[0].Subject != "billing.charge" || stats.Endpoints[0].Data.Succeeded != 1 {
		t.Errorf("the statistics are %+v, want one success at billing.charge", stats)
	}
}
