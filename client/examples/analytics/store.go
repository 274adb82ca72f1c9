package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// The bucket and the key of the totals.
const (
	bucketName = "analytics"
	totalsKey  = "totals"
)

// keptTotals keeps the totals in a key-value bucket. It is not safe for concurrent use.
type keptTotals struct {
	bucket   jetstream.KeyValue
	revision uint64 // of the totals last loaded or stored, 0 for none
}

func openTotals(ctx context.Context, js jetstream.JetStream) (*keptTotals, error) {
	bucket, err := js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: bucketName, Description: "How operations ended"})
	if err != nil {
		return nil, fmt.Errorf("opening the bucket of the totals: %w", err)
	}
	return &keptTotals{bucket: bucket}, nil
}

// load returns the totals as last stored.
func (k *keptTotals) load(ctx context.Context) (*Totals, error) {
	totals := &Totals{Groups: make(map[string]Total)}
	entry, err := k.bucket.Get(ctx, totalsKey)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return totals, nil
	case err != nil:
		return nil, fmt.Errorf("loading the totals: %w", err)
	}
	k.revision = entry.Revision()
	if err := json.Unmarshal(entry.Value(), totals); err != nil {
		return nil, fmt.Errorf("loading the totals: %w", err)
	}
	return totals, nil
}

// store stores the totals, unless they were changed by somebody else since load.
func (k *keptTotals) store(ctx context.Context, totals *Totals) error {
	value, err := json.Marshal(totals)
	if err != nil {
		return err
	}
	// Revision 0 means that the key must not exist.
	k.revision, err = k.bucket.Update(ctx, totalsKey, value, k.revision)
	if err != nil {
		return fmt.Errorf("storing the totals: %w", err)
	}
	return nil
}
