package pull

import (
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// deliveries follows what a consumer delivers for the first time, which it does in the
// order of the stream, whichever instance asks. A server that leads a consumer and is cut
// off delivers what its successor never hears of. The successor delivers that for the
// first time again, often to another instance.
type deliveries struct {
	mu        sync.Mutex // guards what follows
	made      time.Time  // when the consumer was made
	latest    uint64     // the latest sequence that it has delivered here
	elsewhere uint64     // the latest that it has delivered to another instance, as that says
}

// begin takes note of the consumer. It returns what the consumer is known to have
// delivered to others, and whether it is another one than before.
func (d *deliveries) begin(made time.Time) (elsewhere uint64, another bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !made.Equal(d.made) {
		another = !d.made.IsZero()
		d.made, d.latest, d.elsewhere = made, 0, 0
	}
	return d.elsewhere, another
}

// hear takes over what a consumer has delivered to another instance.
func (d *deliveries) hear(made time.Time, sequence uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if made.Equal(d.made) {
		d.elsewhere = max(d.elsewhere, sequence)
	}
}

// reached returns when the consumer was made and what it has delivered last, 0 when
// nothing yet.
func (d *deliveries) reached() (made time.Time, sequence uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.made, d.latest
}

// forgotten takes note of a delivery. It reports whether the consumer may have delivered
// the message before although it says that it does for the first time: the message is
// older than the consumer, or the consumer has gone back behind what it had delivered
// here, or to others before it was asked for the message.
func (d *deliveries) forgotten(m *jetstream.MsgMetadata, elsewhere uint64) bool {
	if m.NumDelivered > 1 {
		return true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	back := m.Sequence.Stream < d.latest || m.Sequence.Stream <= elsewhere
	d.latest = max(d.latest, m.Sequence.Stream)
	return back || m.Timestamp.Before(d.made)
}
