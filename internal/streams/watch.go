package streams

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/nats-io/nats.go/jetstream"
)

// WatchValues calls changed with all values of a bucket in the order of their keys, and again
// after each change, one call at a time. The callee owns the list, which is never nil. WatchValues
// returns nil when ctx ends, and otherwise why the watch ended.
func WatchValues[T any](ctx context.Context, kv jetstream.KeyValue, decode func(jetstream.KeyValueEntry) (T, error), changed func([]T)) error {
	w, err := kv.WatchAll(ctx)
	if err != nil {
		return unlessEnded(ctx, err)
	}
	all, complete := make(map[string]T), false
	for {
		select {
		case <-ctx.Done():
			return unlessEnded(ctx, w.Stop())
		case e, ok := <-w.Updates():
			switch {
			case !ok:
				return unlessEnded(ctx, errors.New("the watcher has stopped"))
			case e == nil:
				complete = true
			case e.Operation() != jetstream.KeyValuePut:
				delete(all, e.Key())
			default:
				if all[e.Key()], err = decode(e); err != nil {
					return errors.Join(unlessEnded(ctx, fmt.Errorf("key %s: %w", e.Key(), err)), w.Stop())
				}
			}
			if complete {
				changed(sorted(all))
			}
		}
	}
}

// sorted returns the values in the order of their keys.
func sorted[T any](all map[string]T) []T {
	list := make([]T, 0, len(all))
	for _, k := range slices.Sorted(maps.Keys(all)) {
		list = append(list, all[k])
	}
	return list
}

// unlessEnded returns the error of a watch whose context has not ended.
func unlessEnded(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	return nil
}
