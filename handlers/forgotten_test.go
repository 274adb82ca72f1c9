package handlers

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/time/rate"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/internal/natsconn"
)

// scheduled is what stands parked until a time, with a worker's attempt if so.
func scheduled(t *testing.T, at time.Time, work *events.Work) *jetstream.RawStreamMsg {
	t.Helper()
	op := &events.Operation{ID: "0123456789abcdef0123456789abcdef", Service: "s", Operation: "o", Attempt: 2, Due: at, Work: work}
	msg := &nats.Msg{Header: nats.Header{}}
	if err := wire.PutState(op, msg.Header); err != nil {
		t.Fatal(err)
	}
	fireAt(msg, at, "retry.due.normal.s.o."+op.ID)
	return &jetstream.RawStreamMsg{Subject: "retry.parked.normal.s.o." + op.ID, Sequence: 5, Header: msg.Header}
}

func TestRelease_OfWhatTheServerMayBeFiringIsContested(t *testing.T) {
	for says, c := range map[string]struct {
		// in is when the schedule fires, seen from when it is released.
		in        time.Duration
		answers   []error
		contested bool
	}{
		"long before its time":          {3 * time.Second, nil, false},
		"right before its time":         {500 * time.Millisecond, nil, true},
		"what should have fired":        {-6 * time.Second, nil, true},
		"its time comes meanwhile":      {3 * time.Second, []error{apiError(10008), apiError(10008), apiError(10008), apiError(10008), apiError(10008), apiError(10008), apiError(10008)}, true},
		"a day before, and then stored": {24 * time.Hour, []error{apiError(10164)}, false},
	} {
		t.Run(says, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				js := &scripted{errs: c.answers}
				s := &store{
					js: js, log: slog.New(slog.DiscardHandler), warn: rate.Sometimes{First: 1}, metrics: modelMetrics(),
					random: func() float64 { return 0.5 }, clock: natsconn.NewClock(nil), storage: &storage{},
				}
				if err := s.release(t.Context(), scheduled(t, time.Now().Add(c.in), nil), time.Time{}); err != nil {
					t.Fatal(err)
				}
				op, err := wire.ReadState(js.sent[len(js.sent)-1].Header)
				if err != nil {
					t.Fatal(err)
				}
				if contested := !op.Contested.IsZero() && op.Repeats > op.Attempt; contested != c.contested {
					t.Errorf("what is due is contested since %s with repeats %d after attempt %d, want so: %v", op.Contested, op.Repeats, op.Attempt, c.contested)
				}
			})
		})
	}
}

func TestSweep_AForgottenWatchdogStillEndsTheAttemptOfItsWorker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		js := &scripted{}
		s := &sweeper{log: slog.New(slog.DiscardHandler), store: &store{
			js: js, log: slog.New(slog.DiscardHandler), warn: rate.Sometimes{First: 1}, metrics: modelMetrics(),
			random: func() float64 { return 0.5 }, clock: natsconn.NewClock(nil), storage: &storage{},
		}}
		at := time.Now().Add(-2 * forgottenAfter)
		work := &events.Work{Token: "t", Attempt: 3, Started: at.Add(-time.Minute)}
		if err := s.fire(t.Context(), []*jetstream.RawStreamMsg{scheduled(t, at, work)}); err != nil {
			t.Fatal(err)
		}
		op, err := wire.ReadState(js.sent[0].Header)
		if err != nil {
			t.Fatal(err)
		}
		if op.Work == nil || !op.Work.Knows("t") || op.Contested.IsZero() {
			t.Errorf("what is due bears the work %+v and is contested since %s, want its worker's attempt, contested", op.Work, op.Contested)
		}
	})
}
