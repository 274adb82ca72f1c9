package lanes

import (
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/opstore"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/internal/testkit"
	"github.com/rebound-mq/rebound/scheduler"
	"github.com/rebound-mq/rebound/scheduler/gate"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// newStore starts a server with Rebound's streams.
func newStore(t *testing.T) (jetstream.JetStream, *opstore.Persister) {
	t.Helper()
	js := testkit.JetStream(t, testkit.Connect(t, testkit.Server(t).ClientURL()))
	for _, c := range streams.Configs(events.Streams{}, streams.Limits{}) {
		if _, err := js.CreateStream(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	return js, opstore.NewPersister(opstore.NewStorage(js, nil), slog.New(slog.DiscardHandler), rand.Float64)
}

func TestLanes_OnlyWhatIsOlderThanItsSlotIsRemoved(t *testing.T) {
	js, persister := newStore(t)
	l := New(NewKeys(js, nil, persister, KeysConfig{Reading: js}), opstore.New(js, persister, opstore.Config{}), Config{Now: time.Now})
	id, other := strings.Repeat("a", 32), strings.Repeat("b", 32)
	put := func(subject string) *jetstream.RawStreamMsg {
		ack, err := js.Publish(t.Context(), subject, nil)
		if err != nil {
			t.Fatal(err)
		}
		return &jetstream.RawStreamMsg{Subject: subject, Sequence: ack.Sequence, Header: nats.Header{}}
	}
	stands := func(m *jetstream.RawStreamMsg) bool {
		stream, err := js.Stream(t.Context(), "RETRY")
		if err != nil {
			t.Fatal(err)
		}
		_, err = stream.GetMsg(t.Context(), m.Sequence)
		return err == nil
	}

	// Its slot has a newer version, so it is left over.
	leftOver := put("retry.held.normal.s.o." + id)
	newer := put("retry.due.normal.s.o." + id)
	if moved, err := l.move(t.Context(), []*jetstream.RawStreamMsg{leftOver}); err != nil || moved != 0 {
		t.Fatalf("moved %d, error %v, want none", moved, err)
	}
	if stands(leftOver) || !stands(newer) {
		t.Errorf("the left-over stands: %v, and what is newer: %v", stands(leftOver), stands(newer))
	}

	// Its release is refused, because the version read is not the stored one. That proves
	// nothing against the stored one.
	held := put("retry.held.normal.s.o." + other)
	if moved, err := l.move(t.Context(), []*jetstream.RawStreamMsg{{Subject: held.Subject, Sequence: held.Sequence + 1, Header: nats.Header{}}}); err != nil || moved != 0 {
		t.Fatalf("moved %d, error %v, want none", moved, err)
	}
	if !stands(held) || !stands(newer) {
		t.Errorf("what is held stands: %v, and what is due: %v, want both", stands(held), stands(newer))
	}
}

// TestLanes_StrandedKeyIsFoundReleasedAndReported makes the watchdog look at a key whose
// release has got stuck.
func TestLanes_StrandedKeyIsFoundReleasedAndReported(t *testing.T) {
	js, persister := newStore(t)
	now := time.Now()
	breakers := breaker.NewGroup(breaker.Config{Instance: "i"})
	var found []string
	l := New(NewKeys(js, nil, persister, KeysConfig{Reading: js, Log: slog.New(slog.DiscardHandler)}), opstore.New(js, persister, opstore.Config{}), Config{
		Gates: scheduler.NewGates(breakers, scheduler.GatesConfig{}), Policies: policy.Builtin, Now: func() time.Time { return now },
		Stranded: func(service, operation string) { found = append(found, service+":"+operation) },
	})
	hold := func(id string) uint64 {
		ack, err := js.Publish(t.Context(), "retry.held.normal.session_manager.o."+strings.Repeat(id, 32), nil)
		if err != nil {
			t.Fatal(err)
		}
		return ack.Sequence
	}
	k := l.of("session_manager", "o")
	l.counted(k, gate.Lengths{events.Normal: 2})
	ended := 0
	k.releasing, k.departures.cancel = true, func() { ended++ }
	look := func(after time.Duration, want int, why string) {
		t.Helper()
		now = now.Add(after)
		l.watchOnce(t.Context(), now)
		if len(found) != want || ended != want {
			t.Errorf("%s: %d stranded keys were reported and %d releases ended, want %d", why, len(found), ended, want)
		}
	}

	first := hold("a")
	hold("b")
	b := breakers.Breaker("session_manager:o", breaker.Settings{})
	if _, err := breakers.Hold(t.Context(), "session_manager:o", breaker.Operator{}); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		look(time.Second, 0, "with the gate shut")
	}
	if _, err := breakers.Reset(t.Context(), "session_manager:o", breaker.Operator{}); err != nil {
		t.Fatal(err)
	}
	if b.State() != breaker.Closed {
		t.Fatalf("the breaker is %v, want it closed", b.State())
	}
	for range 5 {
		look(time.Second, 0, "for less than 6 s")
	}
	stream, err := js.Stream(t.Context(), "RETRY")
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.DeleteMsg(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		look(time.Second, 0, "when another instance has released the oldest")
	}
	look(2*time.Second, 1, "when the next one stays")
	if !k.look || !strings.Contains(l.Problem(), "session_manager:o ") {
		t.Errorf("the key is to be checked: %v, and the problem reads %q; want it to be checked and named", k.look, l.Problem())
	}
	if now = now.Add(strandedShown); l.Problem() != "" {
		t.Errorf("ten minutes later the problem reads %q, want none", l.Problem())
	}
	l.departed(k, 1)
	look(suspectAfter+time.Second, 1, "after a departure")
}

func TestLanes_KeyIsCountedAsSoonAsThisInstanceHoldsForIt(t *testing.T) {
	now := time.Now()
	breakers := breaker.NewGroup(breaker.Config{Instance: "i"})
	l := New(NewKeys(nil, nil, nil, KeysConfig{ForgetAfter: time.Hour, Log: slog.New(slog.DiscardHandler)}), nil, Config{
		Gates: scheduler.NewGates(breakers, scheduler.GatesConfig{}), Policies: policy.Builtin, Now: func() time.Time { return now },
	})
	breakers.Breaker("pay:charge", breaker.Settings{})
	if _, err := breakers.Hold(t.Context(), "pay:charge", breaker.Operator{}); err != nil {
		t.Fatal(err)
	}
	l.of("pay", "refund").marker.put = now // its gate is open
	k := l.of("pay", "charge")
	if got := l.uncounted(now); len(got) != 0 {
		t.Errorf("%d keys are to be counted before anything is held, want none", len(got))
	}
	k.marker.put = now // no sweep has seen the mark yet
	if got := l.uncounted(now); len(got) != 1 || got[0] != k {
		t.Errorf("%d keys are to be counted after this instance has held operations of one, want that one", len(got))
	}
}

// TestLanes_WhatAnotherInstanceHasLetOutIsHeldNoMore has an instance count what another then lets
// out and unmarks, and lets it look again while the gate is shut, and while it is open.
func TestLanes_WhatAnotherInstanceHasLetOutIsHeldNoMore(t *testing.T) {
	js, persister := newStore(t)
	now := time.Now()
	breakers := breaker.NewGroup(breaker.Config{Instance: "i"})
	gates := scheduler.NewGates(breakers, scheduler.GatesConfig{})
	keys, err := OpenKeys(t.Context(), js, persister, KeysConfig{Reading: js, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	l := New(keys, opstore.New(js, persister, opstore.Config{}), Config{Gates: gates, Policies: policy.Builtin, Now: func() time.Time { return now }})
	breakers.Breaker("pay:shut", breaker.Settings{})
	if _, err := breakers.Hold(t.Context(), "pay:shut", breaker.Operator{}); err != nil {
		t.Fatal(err)
	}
	for _, operation := range []string{"shut", "open"} {
		k := l.of("pay", operation)
		l.quota(k, events.Normal, now)
		l.counted(k, gate.Lengths{events.Normal: 2})
	}
	held := func() (n int) {
		for _, s := range gates.Standings(now) {
			n += s.Held
		}
		return n
	}
	l.sweep(t.Context(), now.Add(time.Hour))
	if len(l.keys) != 2 || held() != 4 {
		t.Fatalf("%d keys hold %d operations as far as is known, want 2 keys and 4 operations", len(l.keys), held())
	}
	if err := l.countShut(t.Context()); err != nil {
		t.Fatal(err)
	}
	if held() != 2 {
		t.Errorf("%d operations are held once the key with a shut gate is counted, want the 2 of the other", held())
	}
	l.watchOnce(t.Context(), now)
	l.watchOnce(t.Context(), now.Add(suspectAfter))
	if held() != 0 {
		t.Errorf("%d operations are held once the watchdog has looked, want none", held())
	}
	l.sweep(t.Context(), now.Add(time.Hour))
	if len(l.keys) != 0 {
		t.Errorf("%d keys are left that hold nothing, want none", len(l.keys))
	}
}
