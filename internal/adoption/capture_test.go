package adoption_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/internal/adoption"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/internal/testkit"
)

func set(t *testing.T, c *adoption.Capture, adopted ...adoption.Adoption) {
	t.Helper()
	if err := c.Listen(t.Context(), adopted); err != nil {
		t.Fatal(err)
	}
}

func TestCapture_ListensOnTheAdvisoriesOfTheAdoptedConsumersOnly(t *testing.T) {
	_, js := newBucket(t)
	c := adoption.NewCapture(js, "", 1)
	set(t, c)
	if _, err := js.Stream(t.Context(), c.Stream()); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Errorf("with nothing adopted there is a stream (%v)", err)
	}
	other := worker()
	other.Consumer = "other"
	for _, adopted := range [][]adoption.Adoption{{worker()}, {worker(), other}, {other}, nil} {
		set(t, c, adopted...)
		set(t, c, adopted...)
		s, err := js.Stream(t.Context(), c.Stream())
		if err != nil {
			t.Fatal(err)
		}
		want := append([]string{"retry.advisory.>"}, adoption.Advisories(adopted)...)
		if got := s.CachedInfo().Config.Subjects; !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))) {
			t.Errorf("it listens on %v, want %v", got, want)
		}
		if missing, err := c.Missing(t.Context(), adopted); err != nil || len(missing) != 0 {
			t.Errorf("missing is %v, %v", missing, err)
		}
	}
	if missing, err := c.Missing(t.Context(), []adoption.Adoption{worker()}); err != nil || len(missing) != 2 {
		t.Errorf("missing of what is not adopted is %v, %v, want both subjects", missing, err)
	}
}

func TestCapture_StoresWhatTheServerSaysOfAMessageGivenUp(t *testing.T) {
	t.Parallel()
	_, js := newBucket(t)
	consumer := makeWorker(t, js, "ORDERS", "worker")
	c := adoption.NewCapture(js, "", 1)
	set(t, c, worker())
	for range 2 {
		if _, err := js.Publish(t.Context(), "orders.new", []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range []int{2, 1, 1} {
		batch, err := consumer.Fetch(n, jetstream.FetchMaxWait(5*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		for m := range batch.Messages() {
			if meta, _ := m.Metadata(); meta.Sequence.Stream == 1 {
				err = m.TermWithReason("no such order")
			} else {
				err = m.Nak()
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	s, err := js.Stream(t.Context(), c.Stream())
	if err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 10*time.Second, "two advisories being stored", func() bool {
		// A worker asks for more, which makes the server process what was refused.
		_, _ = consumer.FetchNoWait(1)
		info, err := s.Info(t.Context())
		return err == nil && info.State.Msgs == 2
	})
	for sequence, want := range map[uint64]string{1: adoption.CodeTerminated, 2: adoption.CodeMaxDeliveries} {
		m, err := s.GetMsg(t.Context(), sequence)
		if err != nil {
			t.Fatal(err)
		}
		a, err := adoption.ParseAdvisory(m.Data)
		if err != nil || a.Code != want || a.Sequence != sequence || a.Stream != "ORDERS" {
			t.Errorf("advisory %d is %+v, %v, want %s of message %d", sequence, a, err, want, sequence)
		}
	}
}

func TestCapture_StreamThatStoresTheAdvisoriesAlreadyIsNamed(t *testing.T) {
	_, js := newBucket(t)
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "AUDIT", Subjects: []string{"$JS.EVENT.ADVISORY.>"}}); err != nil {
		t.Fatal(err)
	}
	c := adoption.NewCapture(js, "", 1)
	for what, err := range map[string]error{
		"looking": c.Captured(t.Context(), []adoption.Adoption{worker()}),
		"setting": c.Listen(t.Context(), []adoption.Adoption{worker()}),
	} {
		var captured *adoption.CapturedError
		if !errors.As(err, &captured) || captured.Stream != "AUDIT" {
			t.Errorf("%s gives %v, want that AUDIT stores them", what, err)
		}
	}
}

func TestCapture_StreamOfTheNameThatCannotServeIsRefused(t *testing.T) {
	_, js := newBucket(t)
	c := adoption.NewCapture(js, "", 1)
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: c.Stream(), Subjects: []string{"x"}}); err != nil {
		t.Fatal(err)
	}
	if err := c.Listen(t.Context(), []adoption.Adoption{worker()}); !errors.As(err, new(*streams.IncompatibleError)) {
		t.Errorf("it gives %v, want that it is incompatible", err)
	}
}
