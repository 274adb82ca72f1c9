package lanes

import (
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/opstore"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func TestLanes_OnlyWhatIsOlderThanItsSlotIsRemoved(t *testing.T) {
	nc := testkit.Connect(t, testkit.Server(t).ClientURL())
	js := testkit.JetStream(t, nc)
	for _, c := range streams.Configs(events.Streams{}, streams.Limits{}) {
		if _, err := js.CreateStream(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	persister := opstore.NewPersister(opstore.NewStorage(js, nil), slog.New(slog.DiscardHandler), rand.Float64)
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
