package pull

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/internal/testkit"
)

func TestMessage_IsSharedOnceAnotherInstanceMayHaveIt(t *testing.T) {
	t.Parallel()
	nc := testkit.Connect(t, testkit.Server(t).ClientURL())
	p := New(Durable(testkit.JetStream(t, nc), "S", jetstream.ConsumerConfig{AckWait: time.Minute}), nil, Config{Conn: nc})
	p.answered = time.Now().Add(time.Hour) // so every renewal counts
	for says, c := range map[string]struct {
		change func(*Message)
		want   bool
	}{
		"it came for the first time, just now": {func(*Message) {}, false},
		"it came before":                       {func(m *Message) { m.meta.NumDelivered = 2 }, true},
		"it came late":                         {func(m *Message) { m.late = true }, true},
		"its consumer is a new one":            {func(m *Message) { m.forgotten = true }, true},
		"the connection was another one":       {func(m *Message) { m.mark = 1 }, true},
		"its lease was a third over":           {func(m *Message) { m.renewed = m.renewed.Add(-20 * time.Second) }, false},
		"its lease was nearly over":            {func(m *Message) { m.renewed = m.renewed.Add(-50 * time.Second) }, true},
		// Without its monotonic part the time goes by the wall clock alone, as it does
		// when a machine was suspended.
		"the machine was suspended": {func(m *Message) { m.renewed = m.renewed.Add(-50 * time.Second).Round(0) }, true},
		"it once was":               {func(m *Message) { m.lost = true }, true},
	} {
		t.Run(says, func(t *testing.T) {
			m := &Message{meta: &jetstream.MsgMetadata{NumDelivered: 1}, renewed: time.Now(), puller: p}
			c.change(m)
			if got := m.Shared(); got != c.want {
				t.Errorf("Shared() = %v, want %v", got, c.want)
			}
			// It stays so when the lease is renewed.
			m.renewed = time.Now()
			if got := m.Shared(); got != c.want {
				t.Errorf("after a renewal, Shared() = %v, want %v", got, c.want)
			}
		})
	}
	m := &Message{meta: &jetstream.MsgMetadata{NumDelivered: 1}, renewed: time.Now(), puller: p}
	for _, unsure := range []bool{true, false} {
		p.setUnsure(unsure)
		if got := m.Shared(); got != unsure {
			t.Errorf("Shared() = %v while it is unsure who leads the consumer: %v, want the same", got, unsure)
		}
	}
	nc.Close()
	testkit.Eventually(t, 10*time.Second, "a message to be shared without a connection", m.Shared)
}
