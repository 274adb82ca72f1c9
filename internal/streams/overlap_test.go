package streams_test

import (
	"errors"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/internal/testkit"
)

func TestRivals_AreTheOtherStreamsOfTheSameSubjects(t *testing.T) {
	t.Parallel()
	url := testkit.Server(t).ClientURL()
	js := testkit.JetStream(t, testkit.Connect(t, url))
	ours := jetstream.StreamConfig{Name: "OURS", Subjects: []string{"retry.dead.>", "retry.other.>"}}
	theirs := jetstream.StreamConfig{Name: "THEIRS", Subjects: []string{"retry.dead.*.charge", "orders"}}
	if _, err := js.CreateStream(t.Context(), theirs); err != nil {
		t.Fatal(err)
	}
	check := func(want map[string][]string) {
		t.Helper()
		if got, err := streams.Rivals(t.Context(), js, ours); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("the rivals are %v, %v, want %v", got, err, want)
		}
	}
	check(map[string][]string{"retry.dead.>": {"THEIRS"}})
	makeBoth(t, js, testkit.JetStream(t, testkit.Connect(t, url)), ours, theirs)
	check(map[string][]string{"retry.dead.>": {"THEIRS"}})
	if err := js.DeleteStream(t.Context(), "THEIRS"); err != nil {
		t.Fatal(err)
	}
	check(map[string][]string{})
}

// makeBoth makes two streams of the same subjects, which the server does when it is asked for both
// at the same time.
func makeBoth(t *testing.T, one, other jetstream.JetStream, a, b jetstream.StreamConfig) {
	t.Helper()
	testkit.Eventually(t, 30*time.Second, "two streams of the same subjects", func() bool {
		for _, name := range []string{a.Name, b.Name} {
			if err := one.DeleteStream(t.Context(), name); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
				t.Fatal(err)
			}
		}
		var making sync.WaitGroup
		var first, second error
		making.Go(func() { _, first = one.CreateStream(t.Context(), a) })
		making.Go(func() { _, second = other.CreateStream(t.Context(), b) })
		making.Wait()
		return first == nil && second == nil
	})
}
