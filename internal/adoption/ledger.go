package adoption

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/streams"
)

// Remembered is how long the ledger remembers a message that was taken over. A server that
// lost a consumer's latest state in a crash may repeat an advisory when it is back.
const Remembered = 24 * time.Hour

// Ledger remembers which advisory takes over which message. If several advisories name a
// message, it belongs to the first that claims it. A claim is made before anything is
// stored, and lasts, so that the others may be dropped. It is safe for concurrent use.
type Ledger struct {
	kv jetstream.KeyValue
	js jetstream.JetStream
}

// LedgerName returns the name of the ledger's bucket under a subject prefix, empty
// for [events.DefaultPrefix].
func LedgerName(prefix string) string {
	return events.Streams{Prefix: prefix}.Waiting() + "_TAKEN"
}

// EnsureLedger opens the ledger and makes it if there is none.
func EnsureLedger(ctx context.Context, js jetstream.JetStream, prefix string, replicas int) (*Ledger, error) {
	kv, err := streams.Bucket(ctx, js, jetstream.KeyValueConfig{
		Bucket: LedgerName(prefix), Description: "Rebound: messages that were taken over from adopted consumers",
		TTL: Remembered, Storage: jetstream.FileStorage, Replicas: max(replicas, 1),
	})
	if err != nil {
		return nil, err
	}
	return &Ledger{kv, js}, nil
}

// Message returns the name of a message in the ledger.
func Message(source, eventID string) string { return events.OperationID(source, eventID, "", "") }

// Claim claims a message for a claimant. mine is whether it belongs to the claimant, and
// first whether this call made it so.
func (l *Ledger) Claim(ctx context.Context, message, claimant string) (mine, first bool, err error) {
	for try := 1; try <= claimTries; try++ {
		_, err = l.kv.Create(ctx, message, []byte(claimant))
		if err == nil {
			return true, true, nil
		}
		if !streams.IsConflict(err) {
			return false, false, fmt.Errorf("claiming a message: %w", err)
		}
		holder, found, err := leaderValue(ctx, l.js, l.kv.Bucket(), message)
		switch {
		case err != nil:
			return false, false, fmt.Errorf("reading who claimed a message: %w", err)
		case found:
			return string(holder) == claimant, false, nil
		}
		// The claim has just expired, or the servers have not agreed on it yet.
		if err := streams.Pause(ctx, try); err != nil {
			return false, false, fmt.Errorf("claiming a message: %w", err)
		}
	}
	return false, false, fmt.Errorf("claiming a message: %w", err)
}

// claimTries is how often a claim is tried while the servers agree on another, which takes
// a few milliseconds.
const claimTries = 100

// Claimed reports whether a message is claimed.
func (l *Ledger) Claimed(ctx context.Context, message string) (bool, error) {
	_, found, err := leaderValue(ctx, l.js, l.kv.Bucket(), message)
	if err != nil {
		return false, fmt.Errorf("reading whether a message is claimed: %w", err)
	}
	return found, nil
}
