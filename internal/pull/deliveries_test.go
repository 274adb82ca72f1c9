package pull

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

func TestDeliveries_ConsumerThatGoesBackMayHaveDeliveredBefore(t *testing.T) {
	made := time.Now()
	var d deliveries
	d.begin(made, time.Time{})
	for _, step := range []struct {
		sequence, delivered uint64
		elsewhere           uint64 // was delivered to another instance before
		age                 time.Duration
		made                time.Duration
		want                bool
	}{
		{sequence: 7, delivered: 1},
		{sequence: 9, delivered: 1},
		{sequence: 7, delivered: 2, want: true},
		{sequence: 12, delivered: 1},
		{sequence: 10, delivered: 1, want: true}, // its leader was cut off, and another leads
		{sequence: 13, delivered: 1},
		{sequence: 15, delivered: 1, elsewhere: 15, want: true}, // that had it from the leader before
		{sequence: 18, delivered: 1, elsewhere: 17},
		{sequence: 20, delivered: 1, elsewhere: 19},
		{sequence: 21, delivered: 1, age: time.Minute, want: true}, // older than the consumer
		{sequence: 1, delivered: 1, made: time.Second},             // stream and consumer were made anew
	} {
		d.begin(made.Add(step.made), time.Time{})
		d.hear(made, step.elsewhere)
		elsewhere, _, _ := d.begin(made.Add(step.made), time.Time{})
		m := &jetstream.MsgMetadata{
			NumDelivered: step.delivered, Sequence: jetstream.SequencePair{Stream: step.sequence}, Timestamp: made.Add(2*time.Second - step.age),
		}
		if got := d.forgotten(m, elsewhere); got != step.want {
			t.Errorf("message %d, delivery %d: forgotten = %v, want %v", step.sequence, step.delivered, got, step.want)
		}
	}
}

func TestDeliveries_NewLeaderMayNotKnowWhatTheFormerOneDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		made := time.Now().Add(-time.Hour)
		var d deliveries
		deliver := func(says string, sequence uint64, stored time.Time, want bool) {
			t.Helper()
			m := &jetstream.MsgMetadata{NumDelivered: 1, Sequence: jetstream.SequencePair{Stream: sequence}, Timestamp: stored}
			if got := d.forgotten(m, 0); got != want {
				t.Errorf("%s: forgotten = %v, want %v", says, got, want)
			}
		}
		d.begin(made, made)
		deliver("under the first leader that is known", 1, made.Add(-time.Second), true) // older than the consumer
		deliver("under the same leader", 2, time.Now(), false)
		time.Sleep(time.Minute)
		elected := time.Now()
		if _, changed, sure := d.begin(made, elected); !changed || !sure {
			t.Errorf("another leader: changed = %v, sure = %v, want both", changed, sure)
		}
		deliver("older than the leader", 3, elected.Add(-time.Second), true)
		deliver("younger than the leader", 4, elected.Add(time.Second), false)
		time.Sleep(reportedWithin)
		deliver("older, once all have reported", 5, elected.Add(-time.Second), false)
		if _, changed, sure := d.begin(made, time.Time{}); changed || sure {
			t.Errorf("a leader that does not say since when: changed = %v, sure = %v, want neither", changed, sure)
		}
	})
}
