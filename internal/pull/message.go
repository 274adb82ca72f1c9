package pull

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Delivery is a message as a consumer has delivered it: of [jetstream.Msg] what a [Puller] needs.
type Delivery interface {
	Subject() string
	Headers() nats.Header
	Data() []byte
	Metadata() (*jetstream.MsgMetadata, error)
	Ack() error
	Nak() error
	NakWithDelay(delay time.Duration) error
	InProgress() error
}

// Message is a message in flight: pulled by this instance and not acknowledged yet. The
// server leases it; the [Puller] renews the lease while the message is handled and
// settles it afterwards, so a [Handler] does neither.
type Message struct {
	msg    Delivery
	meta   *jetstream.MsgMetadata
	puller *Puller
	mark   uint64 // of the connection when the message was requested
	// late is whether it came with a later pull than the one that requested it, so it has no
	// permit, and mark does not tell of what was before.
	late bool
	// forgotten is whether the consumer may have forgotten an earlier delivery, see
	// [deliveries].
	forgotten bool

	asked time.Time // when the message was requested
	// renewed is when the server was last notified of progress, or else asked. lost is
	// whether the lease may have been over once. Both are guarded by Puller.mu.
	renewed time.Time
	lost    bool
}

// Subject returns the subject of the message.
func (m *Message) Subject() string { return m.msg.Subject() }

// Headers returns the headers of the message.
func (m *Message) Headers() nats.Header { return m.msg.Headers() }

// Data returns the payload of the message.
func (m *Message) Data() []byte { return m.msg.Data() }

// Sequence returns the sequence of the message in its stream.
func (m *Message) Sequence() uint64 { return m.meta.Sequence.Stream }

// Stored returns when the stream stored the message.
func (m *Message) Stored() time.Time { return m.meta.Timestamp }

// Deliveries returns how often the consumer says that it delivered the message, including
// this time.
func (m *Message) Deliveries() uint64 { return m.meta.NumDelivered }

// Pending returns how many messages waited behind this one.
func (m *Message) Pending() uint64 { return m.meta.NumPending }

// Repeated reports whether the message may have been delivered before.
func (m *Message) Repeated() bool { return m.forgotten || m.meta.NumDelivered > 1 }

// Shared reports whether the server may have given the message to another instance too: it
// was delivered before or came late, the server was out of reach for a while or is not known to
// lead the consumer still, or this instance was frozen. A message that lay in a socket meanwhile
// still counts one delivery.
func (m *Message) Shared() bool {
	if m.Repeated() || m.late || !m.puller.config.Link.UpSince(m.mark) {
		return true
	}
	m.puller.mu.Lock()
	defer m.puller.mu.Unlock()
	return m.mayBeLost(time.Now()) || m.puller.unsure
}

// AwaitPulled waits, while the puller drains, until it pulls nothing more. What is stored for
// other instances before that might be delivered to the pull that is about to end.
func (m *Message) AwaitPulled() { m.puller.awaitPulled() }

// mayBeLost reports whether the lease may have been over once, or may be over when a write
// begun now arrives, for which half the lease is reserved. The caller has locked Puller.mu.
func (m *Message) mayBeLost(now time.Time) bool {
	m.lost = m.lost || elapsed(m.leased(), now) > m.puller.source.Lease()/2
	return m.lost
}

// leased returns the latest moment at which the lease is known to have begun anew. The server
// confirms no renewal, and one is lost while the leader of the consumer is out of reach. So a
// renewal counts up to when the leader was last asked something that it answered. The caller has
// locked Puller.mu.
func (m *Message) leased() time.Time {
	known := m.renewed
	if m.puller.answered.Before(known) {
		known = m.puller.answered
	}
	if known.Before(m.asked) {
		return m.asked
	}
	return known
}

// confirm records that the leader has answered what it was asked then. What was in doubt by then
// remains lost.
func (p *Puller) confirm(asked time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for m := range p.unacked {
		m.mayBeLost(now)
	}
	p.answered = asked
}

// elapsed returns the time between two moments by the monotonic or the wall clock, whichever
// is longer: the monotonic clock stands still while the machine is suspended.
func elapsed(since, now time.Time) time.Duration {
	return max(now.Sub(since), now.Round(0).Sub(since.Round(0)))
}

// renew renews the leases of the messages in flight well before they are over.
func (p *Puller) renew(ctx context.Context) {
	every := p.source.Lease() / 12
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			for _, m := range p.stale(now, 2*every) {
				if err := m.msg.InProgress(); err != nil {
					p.config.Log.Debug("a lease could not be renewed", "subject", m.Subject(), "error", err)
					continue
				}
				p.mu.Lock()
				m.renewed = now
				p.mu.Unlock()
			}
		}
	}
}

// stale returns the messages in flight whose lease was last renewed longer ago than that.
func (p *Puller) stale(now time.Time, longer time.Duration) []*Message {
	p.mu.Lock()
	defer p.mu.Unlock()
	var stale []*Message
	for m := range p.unacked {
		if elapsed(m.renewed, now) > longer {
			m.mayBeLost(now)
			stale = append(stale, m)
		}
	}
	return stale
}

// loseLeases marks the lease of every message in flight as lost: the consumer that
// delivered them is gone, and the next one delivers them again.
func (p *Puller) loseLeases() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for m := range p.unacked {
		m.lost = true
	}
}
