package streams

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// Bucket opens a key-value bucket, which it makes when there is none. One that
// exists is taken as it is.
func Bucket(ctx context.Context, js jetstream.JetStream, config jetstream.KeyValueConfig) (jetstream.KeyValue, error) {
	kv, err := js.KeyValue(ctx, config.Bucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		kv, err = js.CreateKeyValue(ctx, config)
		if errors.Is(err, jetstream.ErrBucketExists) {
			// Another instance made it between the two calls.
			kv, err = js.KeyValue(ctx, config.Bucket)
		}
		if err != nil {
			return nil, fmt.Errorf("making bucket %s: %w", config.Bucket, err)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("opening bucket %s: %w", config.Bucket, err)
	}
	return kv, nil
}

// IsConflict reports whether err says that a key was not as a compare-and-set
// expected it, because somebody else was faster.
func IsConflict(err error) bool {
	if errors.Is(err, jetstream.ErrKeyExists) {
		return true
	}
	var api *jetstream.APIError
	return errors.As(err, &api) && api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence
}
