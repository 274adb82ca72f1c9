// Package parallel does many things at once within bounds: [Each].
package parallel

import (
	"context"
	"iter"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"
)

// Each does something to each item, at most atOnce at a time and no faster
// than limiter allows. The first error ends it, as does the end of ctx; what is
// begun by then is finished with a context that goes on.
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
		// A listing may take the end of ctx for its own.
		return ctx.Err()
	}
	feedErr := feed()
	if err := group.Wait(); err != nil {
		return err
	}
	return feedErr
}
