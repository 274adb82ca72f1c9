package opstore

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
)

// scheduled returns a message that is parked until a time.
func scheduled(t *testing.T, at time.Time) *jetstream.RawStreamMsg {
	t.Helper()
	op := &events.Operation{ID: "0123456789abcdef0123456789abcdef", Service: "s", Operation: "o", Attempt: 2, Due: at}
	msg := &nats.Msg{Header: nats.Header{}}
	if err := wire.PutState(op, msg.Header); err != nil {
		t.Fatal(err)
	}
	fireAt(msg, at, "retry.due.normal.s.o."+op.ID)
	return &jetstream.RawStreamMsg{Subject: "retry.parked.normal.s.o." + op.ID, Sequence: 5, Header: msg.Header}
}

func TestStore_ReleaseOfWhatTheServerMayBeFiringIsContested(t *testing.T) {
	for says, c := range map[string]struct {
		// in is how long after the release the schedule fires.
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
				s := newStore(js)
				if err := s.Release(t.Context(), scheduled(t, time.Now().Add(c.in)), time.Time{}); err != nil {
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
