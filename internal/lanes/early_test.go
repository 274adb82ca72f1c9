package lanes

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/internal/opstore"
	"github.com/rebound-mq/rebound/internal/testkit"
	"github.com/rebound-mq/rebound/scheduler"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

// TestEarly_WhatCouldNotBeLetOutIsTriedAgain fails a release of what it has read.
func TestEarly_WhatCouldNotBeLetOutIsTriedAgain(t *testing.T) {
	const parked = 10
	js, persister := newStore(t)
	breakers := breaker.NewGroup(breaker.Config{Instance: "i"})
	gates := scheduler.NewGates(breakers, scheduler.GatesConfig{Now: time.Now})
	l := New(NewKeys(js, nil, persister, KeysConfig{Reading: js, Log: slog.New(slog.DiscardHandler)}), opstore.New(js, persister, opstore.Config{}), Config{
		Gates: gates, Policies: policy.Builtin, Now: time.Now,
	})
	for i := range parked {
		id := fmt.Sprintf("%032x", i)
		m := &nats.Msg{Subject: "retry.parked.normal.pay.charge." + id, Header: nats.Header{}}
		op := events.Operation{ID: id, Service: "pay", Operation: "charge", Attempt: 1, Priority: events.Normal, Due: time.Now().Add(time.Hour)}
		if err := wire.PutState(&op, m.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := js.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	k := l.of("pay", "charge")
	l.quota(k, events.Normal, time.Now())
	if _, err := breakers.Hold(t.Context(), "pay:charge", breaker.Operator{}); err != nil {
		t.Fatal(err)
	}
	l.quota(k, events.Normal, time.Now())
	if _, err := breakers.Reset(t.Context(), "pay:charge", breaker.Operator{}); err != nil {
		t.Fatal(err)
	}
	early := func(ctx context.Context) error {
		_, err := l.early(ctx, k)
		return err
	}
	left := func() uint64 {
		n, err := l.count(t.Context(), "retry.parked.>")
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	testkit.Eventually(t, 10*time.Second, "the first being let out", func() bool {
		if err := early(t.Context()); err != nil {
			t.Fatal(err)
		}
		return left() < parked
	})
	ended, end := context.WithCancel(t.Context())
	end()
	testkit.Eventually(t, 10*time.Second, "a release that fails", func() bool { return early(ended) != nil })
	testkit.Eventually(t, 10*time.Second, "all being let out", func() bool {
		if err := early(t.Context()); err != nil {
			t.Fatal(err)
		}
		return left() == 0
	})
}
