package keeper

import (
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/internal/testkit"
)

// A stream without a work queue keeps what is acknowledged, as the work queue of a server
// does that is killed before it removes that.
func TestAckedSweeper_RemovesWhatIsAcknowledgedAndNothingElse(t *testing.T) {
	t.Parallel()
	js := testkit.JetStream(t, testkit.Connect(t, testkit.Server(t).ClientURL()))
	stream, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.*"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, subject := range []string{"s.due", "s.other", "s.due", "s.due", "s.due"} {
		if _, err := js.Publish(t.Context(), subject, nil); err != nil {
			t.Fatal(err)
		}
	}
	c, err := stream.CreateConsumer(t.Context(), jetstream.ConsumerConfig{
		Durable: "c", FilterSubject: "s.due", AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	s := NewAckedSweeper(js, []Consumer{{"S", "c"}}, func() bool { return true }, slog.New(slog.DiscardHandler))
	left := func() (sequences []uint64) {
		t.Helper()
		for n := uint64(1); n <= 5; n++ {
			if _, err := stream.GetMsg(t.Context(), n); err == nil {
				sequences = append(sequences, n)
			}
		}
		return sequences
	}
	sweep := func(removed int, want ...uint64) {
		t.Helper()
		before := left()
		// What was acknowledged just now the server may be about to remove.
		if n, err := s.sweep(t.Context(), s.consumers[0]); err != nil || n != 0 || !slices.Equal(left(), before) {
			t.Errorf("at the first look %d messages were removed with error %v, want none", n, err)
		}
		n, err := s.sweep(t.Context(), s.consumers[0])
		if got := left(); err != nil || n != removed || !slices.Equal(got, want) {
			t.Errorf("%d messages were removed with error %v and %v are left, want %d and %v", n, err, got, removed, want)
		}
	}
	sweep(0, 1, 2, 3, 4, 5)
	var inFlight []jetstream.Msg
	for range 3 {
		m, err := c.Next(jetstream.FetchMaxWait(30 * time.Second))
		if err != nil {
			t.Fatal(err)
		}
		inFlight = append(inFlight, m)
	}
	for _, i := range []int{0, 2} { // the third is above one that is in flight
		if err := inFlight[i].DoubleAck(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	sweep(1, 2, 3, 4, 5)
	if err := inFlight[1].DoubleAck(t.Context()); err != nil {
		t.Fatal(err)
	}
	sweep(2, 2, 5)
	sweep(0, 2, 5)
}
