package pull

import (
	"testing"
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
		elsewhere, _ := d.begin(made.Add(step.made), time.Time{})
		m := &jetstream.MsgMetadata{
			NumDelivered: step.delivered, Sequence: jetstream.SequencePair{Stream: step.sequence}, Timestamp: made.Add(2*time.Second - step.age),
		}
		if got := d.forgotten(m, elsewhere); got != step.want {
			t.Errorf("message %d, delivery %d: forgotten = %v, want %v", step.sequence, step.delivered, got, step.want)
		}
	}
}
