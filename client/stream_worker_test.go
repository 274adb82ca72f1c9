package client_test

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/client"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/testkit"
)

var chargeStream = client.StreamWorkerConfig{Service: "billing", Operation: "charge"}

// byPublish is an operation for a stream worker.
var byPublish = client.Submission{Service: "billing", Operation: "charge", Delivery: events.Publish, Data: []byte("inv-1")}

// streamWorker starts a stream worker that is stopped when the test ends.
func (r *rig) streamWorker(config client.StreamWorkerConfig, handle client.Handler) *client.StreamWorker {
	r.t.Helper()
	w, err := r.StartStreamWorker(ctx(r.t), config, handle)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		if err := w.Stop(ctx(r.t)); err != nil {
			r.t.Errorf("stopping the stream worker: %v", err)
		}
	})
	return w
}

func (r *rig) submit(s client.Submission) {
	r.t.Helper()
	if _, err := r.Submit(ctx(r.t), s); err != nil {
		r.t.Fatal(err)
	}
}

// left counts the messages of a stream.
func (r *rig) left(stream string) uint64 {
	r.t.Helper()
	s, err := testkit.JetStream(r.t, r.nc).Stream(ctx(r.t), stream)
	if err != nil {
		r.t.Fatal(err)
	}
	return s.CachedInfo().State.Msgs
}

func TestStreamWorker_ReportsByItself(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		handle client.Handler
		end    string
		code   string
	}{
		"success":   {func(context.Context, *client.Request) error { return nil }, events.RetrySuccess, ""},
		"a failure": {func(context.Context, *client.Request) error { return &client.Error{Code: "404", Message: "gone"} }, events.RetryFailed, "404"},
		"a failure without a code": {func(_ context.Context, r *client.Request) error {
			if r.Attempt < 4 {
				return errors.New("hm")
			}
			return nil
		}, events.RetrySuccess, ""},
		"a panic": {func(context.Context, *client.Request) error { panic("a bug") }, events.RetryFailed, "panic"},
		"a goroutine that exits": {func(_ context.Context, r *client.Request) error {
			if r.Attempt == 2 {
				runtime.Goexit()
			}
			return client.NotRetryable(errors.New("no"))
		}, events.RetryFailed, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, swift)
			w := r.streamWorker(chargeStream, tc.handle)
			r.submit(byPublish)
			got := r.outcomes(1, client.OutcomeFilter{})[0]
			if got.Outcome.Outcome != tc.end || tc.code != "" && got.Error.Code != tc.code {
				t.Errorf("the operation ended in %s with error %+v, want %s with code %q", got.Outcome.Outcome, got.Error, tc.end, tc.code)
			}
			testkit.Eventually(t, patience, "an empty stream", func() bool { return r.left("RETRY_WORK") == 0 })
			testkit.Eventually(t, patience, "no handler at work", func() bool { return w.Stats().InFlight == 0 })
		})
	}
}

func TestStreamWorker_LongHandlerKeepsItsAttempt(t *testing.T) {
	t.Parallel()
	r := newRig(t, swift+"billing: {attemptTimeout: 4s}\n")
	js := testkit.JetStream(t, r.nc)
	if _, err := js.CreateStream(ctx(t), jetstream.StreamConfig{Name: "JOBS", Subjects: []string{"jobs.>"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateConsumer(ctx(t), "JOBS", jetstream.ConsumerConfig{Durable: "short", AckPolicy: jetstream.AckExplicitPolicy, AckWait: 15 * time.Second}); err != nil {
		t.Fatal(err)
	}
	var calls atomic.Int32
	r.streamWorker(client.StreamWorkerConfig{Service: "billing", Operation: "charge", Target: "jobs.charge", Consumer: "short"},
		func(ctx context.Context, _ *client.Request) error {
			calls.Add(1)
			select {
			case <-time.After(20 * time.Second):
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		})
	s := byPublish
	s.Target = "jobs.charge"
	r.submit(s)
	got := r.outcomes(1, client.OutcomeFilter{})[0]
	if got.Outcome.Outcome != events.RetrySuccess || got.Attempts != 2 || calls.Load() != 1 {
		t.Errorf("the operation ended in %s after %d attempts and %d calls, want retrySuccess after 2 attempts and 1 call", got.Outcome.Outcome, got.Attempts, calls.Load())
	}
}

func TestStreamWorker_OperationComesBackWhenItsWorkerDies(t *testing.T) {
	t.Parallel()
	r := newRig(t, swift+"billing: {attemptTimeout: 1s}\n")
	nc := testkit.Connect(t, r.url)
	doomed := connected(t, client.Config{Conn: nc})
	dead := make(chan struct{})
	w, err := doomed.StartStreamWorker(ctx(t), chargeStream, func(context.Context, *client.Request) error {
		nc.Close() // cut the worker off during its work
		close(dead)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	r.submit(byPublish)
	<-dead
	var attempt atomic.Int32
	r.streamWorker(chargeStream, func(_ context.Context, r *client.Request) error {
		attempt.Store(int32(r.Attempt))
		return nil
	})
	got := r.outcomes(1, client.OutcomeFilter{})[0]
	if got.Outcome.Outcome != events.RetrySuccess || got.Attempts != 3 || attempt.Load() != 3 {
		t.Errorf("the operation ended in %s after %d attempts, the last worker had attempt %d; want retrySuccess after 3", got.Outcome.Outcome, got.Attempts, attempt.Load())
	}
	if err := w.Stop(ctx(t)); err != nil {
		t.Errorf("stopping the worker that was cut off: %v", err)
	}
}

func TestStreamWorker_HandlerLearnsThatItsAttemptIsOver(t *testing.T) {
	t.Parallel()
	r := newRig(t, swift+"billing: {attemptTimeout: 20s}\n")
	cause := make(chan error, 1)
	r.streamWorker(chargeStream, func(ctx context.Context, req *client.Request) error {
		// Another holder of the message reports.
		m := nats.NewMsg(req.Header.Get(events.HeaderReport))
		for _, name := range []string{events.HeaderID, events.HeaderAttempt, events.HeaderToken} {
			m.Header.Set(name, req.Header.Get(name))
		}
		m.Header.Set(events.HeaderResult, "success")
		if err := r.nc.PublishMsg(m); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			cause <- context.Cause(ctx)
		case <-time.After(patience):
			cause <- nil
		}
		return errors.New("too late")
	})
	r.submit(byPublish)
	if got := r.outcomes(1, client.OutcomeFilter{})[0]; got.Outcome.Outcome != events.RetrySuccess {
		t.Errorf("the operation ended in %s, want retrySuccess", got.Outcome.Outcome)
	}
	if err := <-cause; !errors.Is(err, client.ErrAttemptOver) {
		t.Errorf("the handler's context ended with cause %v, want ErrAttemptOver", err)
	}
}

func TestStreamWorker_FailedFirstAttemptComesBackToItsStream(t *testing.T) {
	t.Parallel()
	r := newRig(t, swift)
	js := testkit.JetStream(t, r.nc)
	if _, err := js.CreateStream(ctx(t), jetstream.StreamConfig{Name: "JOBS", Subjects: []string{"jobs.>"}}); err != nil {
		t.Fatal(err)
	}
	w := r.streamWorker(client.StreamWorkerConfig{Service: "billing", Operation: "charge", Target: "jobs.charge"},
		func(_ context.Context, req *client.Request) error {
			if req.Redelivered() {
				return nil
			}
			return errBusy
		})
	if _, err := js.Publish(ctx(t), "jobs.charge", []byte("new")); err != nil {
		t.Fatal(err)
	}
	got := r.outcomes(1, client.OutcomeFilter{})[0]
	if got.Outcome.Outcome != events.RetrySuccess || got.Target != "jobs.charge" || w.Stats().Submitted != 1 {
		t.Errorf("the operation ended in %s at %s, and the worker submitted %d; want retrySuccess at jobs.charge and 1", got.Outcome.Outcome, got.Target, w.Stats().Submitted)
	}
}

func TestStreamWorker_StopWaitsForItsHandlers(t *testing.T) {
	t.Parallel()
	r := newRig(t, swift)
	begun, finish := make(chan struct{}), make(chan struct{})
	w, err := r.StartStreamWorker(ctx(t), chargeStream, func(context.Context, *client.Request) error {
		close(begun)
		<-finish
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	r.submit(byPublish)
	<-begun
	stopped := make(chan error, 1)
	go func() { stopped <- w.Stop(ctx(t)) }()
	select {
	case err := <-stopped:
		t.Fatalf("Stop returned %v while a handler was at work", err)
	case <-time.After(100 * time.Millisecond):
	}
	close(finish)
	if err := <-stopped; err != nil {
		t.Errorf("Stop returned %v, want nil", err)
	}
	if got := r.outcomes(1, client.OutcomeFilter{})[0]; got.Outcome.Outcome != events.RetrySuccess {
		t.Errorf("the operation ended in %s, want retrySuccess", got.Outcome.Outcome)
	}
}

func TestStreamWorker_HandlerThatIsCutOffLeavesItsOperationToOthers(t *testing.T) {
	t.Parallel()
	r := newRig(t, swift+"billing: {attemptTimeout: 20s}\n")
	begun := make(chan struct{})
	w, err := r.StartStreamWorker(ctx(t), chargeStream, func(ctx context.Context, _ *client.Request) error {
		close(begun)
		<-ctx.Done()
		return ctx.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	r.submit(byPublish)
	<-begun
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if err := w.Stop(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("Stop returned %v, want that it was cut off", err)
	}
	r.streamWorker(chargeStream, func(context.Context, *client.Request) error { return nil })
	if got := r.outcomes(1, client.OutcomeFilter{})[0]; got.Outcome.Outcome != events.RetrySuccess || got.Attempts != 2 {
		t.Errorf("the operation ended in %s after %d attempts, want retrySuccess in the attempt that was given back", got.Outcome.Outcome, got.Attempts)
	}
}

func TestStreamWorker_SaysWhyItCannotWork(t *testing.T) {
	t.Parallel()
	r := newRig(t, swift)
	if _, err := r.StartStreamWorker(ctx(t), client.StreamWorkerConfig{Service: "a b", Operation: "charge", Target: "*", Concurrency: -1}, nil); err == nil {
		t.Error("a worker with a wrong configuration was started")
	}
	_, err := r.StartStreamWorker(ctx(t), client.StreamWorkerConfig{Service: "billing", Operation: "charge", Target: "jobs.charge"}, nil)
	if !errors.Is(err, client.ErrNoStream) {
		t.Errorf("starting a worker of a subject without a stream says %v, want ErrNoStream", err)
	}
}
