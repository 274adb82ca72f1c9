package keeper

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/internal/opstore"
	"github.com/rebound-mq/rebound/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// publishing is a JetStream that records what is published.
type publishing struct {
	jetstream.JetStream
	sent   []*nats.Msg
	blocks chan struct{} // until it is closed; nil does not
}

func (p *publishing) PublishMsg(_ context.Context, m *nats.Msg, _ ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	if p.blocks != nil {
		<-p.blocks
	}
	p.sent = append(p.sent, m)
	return &jetstream.PubAck{Sequence: uint64(len(p.sent))}, nil
}

func TestSweeper_ForgottenWatchdogStillEndsTheAttemptOfItsWorker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		js, log := &publishing{}, slog.New(slog.DiscardHandler)
		s := NewSweeper(opstore.New(js, opstore.NewPersister(opstore.NewStorage(js, nil), log, rand.Float64), opstore.Config{}), SweeperConfig{Storage: opstore.NewStorage(js, nil), Log: log})
		at := time.Now().Add(-2 * forgottenAfter)
		work := &events.Work{Token: "t", Attempt: 3, Started: at.Add(-time.Minute)}
		op := &events.Operation{ID: "0123456789abcdef0123456789abcdef", Service: "s", Operation: "o", Attempt: 2, Due: at, Work: work}
		h := nats.Header{
			jetstream.ScheduleHeader:       {"@at " + at.UTC().Format(time.RFC3339Nano)},
			jetstream.ScheduleTargetHeader: {"retry.due.normal.s.o." + op.ID},
		}
		if err := wire.PutState(op, h); err != nil {
			t.Fatal(err)
		}
		watchdog := &jetstream.RawStreamMsg{Subject: "retry.parked.normal.s.o." + op.ID, Sequence: 5, Header: h}
		if left, err := s.fire(t.Context(), []*jetstream.RawStreamMsg{watchdog}, 0); err != nil || left != 0 || s.Forgotten() != 1 {
			t.Fatalf("%d are left, %v, and %d were made due, want 0 and 1", left, err, s.Forgotten())
		}
		op, err := wire.ReadState(js.sent[0].Header)
		if err != nil {
			t.Fatal(err)
		}
		if op.Work == nil || !op.Work.HasToken("t") || op.Contested.IsZero() {
			t.Errorf("what is due bears the work %+v and is contested since %s, want its worker's attempt, contested", op.Work, op.Contested)
		}
	})
}

func TestSweeper_WhatCannotBeMadeDueIsOverdueMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		js, log := &publishing{blocks: make(chan struct{})}, slog.New(slog.DiscardHandler)
		s := NewSweeper(opstore.New(js, opstore.NewPersister(opstore.NewStorage(js, nil), log, rand.Float64), opstore.Config{}), SweeperConfig{Storage: opstore.NewStorage(js, nil), Log: log})
		op := &events.Operation{ID: "0123456789abcdef0123456789abcdef", Service: "s", Operation: "o", Attempt: 2, Due: time.Now().Add(-2 * forgottenAfter)}
		h := nats.Header{
			jetstream.ScheduleHeader:       {"@at " + op.Due.UTC().Format(time.RFC3339Nano)},
			jetstream.ScheduleTargetHeader: {"retry.due.normal.s.o." + op.ID},
		}
		if err := wire.PutState(op, h); err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		go func() {
			_, err := s.fire(t.Context(), []*jetstream.RawStreamMsg{{Subject: "retry.parked.normal.s.o." + op.ID, Sequence: 5, Header: h}}, 2)
			done <- err
		}()
		synctest.Wait()
		if s.Overdue() != 3 || s.Problem() == "" {
			t.Errorf("%d are overdue while nothing can be stored (%q), want this one and the 2 before, and that said", s.Overdue(), s.Problem())
		}
		close(js.blocks)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}
