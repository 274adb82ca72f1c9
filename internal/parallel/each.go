// Package parallel processes items concurrently within bounds, with [Each], and calls functions in
// goroutines that are used again, with a [Pool].
package parallel

import (
	"context"
	"iter"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"
)

// Each calls do for each item, at most atOnce at a time and no faster than limiter allows. It
// stops at the first error or when ctx ends; calls that have begun are completed, with a context
// that does not end.
func Each[T any](ctx context.Context, items iter.Seq2[T, error], atOnce int, limiter *rate.Limiter, do func(context.Context, T) error) error {
	finish := context.WithoutCancel(ctx)
	group, feedCtx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	feed := func() error {
		for item, err := range items {
			if err != nil {
				return err
			}
			if err := limiter.Wait(feedCtx); err != nil {
				return err
			}
			group.Go(func() error { return do(finish, item) })
		}
		// The iterator may end silently when ctx ends.
		return ctx.Err()
	}
	feedErr := feed()
	if err := group.Wait(); err != nil {
		return err
	}
	return feedErr
}
