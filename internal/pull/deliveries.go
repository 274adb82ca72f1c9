package pull

import (
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// deliveries tracks a consumer's first deliveries, which come in the order of the stream,
// whichever instance asks. If the server that leads a consumer is cut off, its successor may
// not learn of its last deliveries. It delivers those messages as new again, often to another
// instance.
type deliveries struct {
	mu        sync.Mutex // guards the fields below
	made      time.Time  // when the consumer was made
	led       time.Time  // since when its leader leads, zero while not known
	changed   time.Time  // when another leader was first noticed, by this host's clock
	latest    uint64     // the latest sequence that it has delivered here
	elsewhere uint64     // the latest that another instance reports as delivered there
}

// reportedWithin is how long it takes at most until the other instances have reported what
// the former leader of a consumer had delivered to them.
const reportedWithin = 3 * time.Second

// begin records the consumer and since when its leader leads, zero if that is not known. It
// returns the latest sequence that the consumer is known to have delivered elsewhere, and
// whether it was made anew or another leads it now: then what it has delivered so far may
// be delivered again. sure is false if another may lead it now.
func (d *deliveries) begin(made, led time.Time) (elsewhere uint64, changed, sure bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	sure = !led.IsZero() || d.led.IsZero()
	if !led.IsZero() {
		if changed = !d.led.IsZero() && !led.Equal(d.led); changed {
			d.changed = time.Now()
		}
		d.led = led
	}
	if !made.Equal(d.made) {
		changed = changed || !d.made.IsZero()
		d.made, d.latest, d.elsewhere = made, 0, 0
	}
	return d.elsewhere, changed, sure
}

// hear records what a consumer has delivered to another instance.
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

// forgotten records a delivery. It reports whether the consumer may have delivered the
// message before although it counts this as the first time: the message is older than the
// consumer, or than a leader that is so new that others may not have reported yet what the
// former one had delivered to them; or the consumer has gone back behind what it had delivered
// here, or elsewhere before the message was requested.
func (d *deliveries) forgotten(m *jetstream.MsgMetadata, elsewhere uint64) bool {
	if m.NumDelivered > 1 {
		return true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	back := m.Sequence.Stream < d.latest || m.Sequence.Stream <= elsewhere
	d.latest = max(d.latest, m.Sequence.Stream)
	if m.Timestamp.Before(d.led) && !d.changed.IsZero() && time.Since(d.changed) < reportedWithin {
		return true
	}
	return back || m.Timestamp.Before(d.made)
}
