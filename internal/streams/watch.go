package streams

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/nats-io/nats.go/jetstream"
)

// errWatchEnded means that the connection ended a watcher.
var errWatchEnded = errors.New("the watcher ended")

// Follow calls f with what a watcher delivers, a nil among it, until f has enough or fails, ctx
// ends, or the watcher does; it returns why, nil if f has enough. Then it stops the watcher.
func Follow(ctx context.Context, w jetstream.KeyWatcher, f func(jetstream.KeyValueEntry) (enough bool, err error)) error {
	defer func() {
		_ = w.Stop() // fails if the connection or the context has ended it already
		// Its goroutine may be waiting to deliver once more. The channel is not closed if the
		// context ended while the watcher was being made.
		for len(w.Updates()) > 0 {
			<-w.Updates()
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case entry, ok := <-w.Updates():
			if !ok {
				return errWatchEnded
			}
			if enough, err := f(entry); enough || err != nil {
				return err
			}
		}
	}
}

// WatchValues calls changed with all values of a bucket in the order of their keys, and again
// after each change, one call at a time. The callee owns the list, which is never nil. WatchValues
// returns nil when ctx ends, and otherwise why the watch ended.
func WatchValues[T any](ctx context.Context, kv jetstream.KeyValue, decode func(jetstream.KeyValueEntry) (T, error), changed func([]T)) error {
	w, err := kv.WatchAll(ctx)
	if err != nil {
		return unlessEnded(ctx, err)
	}
	all, complete := make(map[string]T), false
	return unlessEnded(ctx, Follow(ctx, w, func(e jetstream.KeyValueEntry) (enough bool, err error) {
		switch {
		case e == nil:
			complete = true
		case e.Operation() != jetstream.KeyValuePut:
			delete(all, e.Key())
		default:
			if all[e.Key()], err = decode(e); err != nil {
				return false, fmt.Errorf("key %s: %w", e.Key(), err)
			}
		}
		if complete {
			changed(sorted(all))
		}
		return false, nil
	}))
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
