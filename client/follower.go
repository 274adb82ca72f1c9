package client

import (
	"context"
	"errors"
	"time"

	"golang.org/x/time/rate"

	"github.com/rebound-mq/rebound/internal/backoff"
	"github.com/rebound-mq/rebound/internal/policies"
)

const (
	// followAgain is the mean pause before following the policies is tried again.
	followAgain = 2 * time.Second
	// bucketAgain is the mean pause before a bucket that no service has made is looked for
	// again.
	bucketAgain = 30 * time.Second
)

// follower keeps the policies in force that were applied in the service.
type follower struct {
	client *Client
	warn   rate.Sometimes
	seen   uint64 // the latest revision that was read
}

func newFollower(c *Client) *follower {
	return &follower{client: c, warn: rate.Sometimes{First: 1, Interval: warnEvery}}
}

// first reads the policies in force.
func (f *follower) first(ctx context.Context) {
	bucket, err := policies.Open(ctx, f.client.js, f.client.config.Prefix)
	var latest policies.Revision
	if err == nil {
		latest, err = bucket.Current(ctx)
	}
	switch {
	case errors.Is(err, policies.ErrNoBucket):
	case err != nil:
		f.complain(err)
	default:
		f.take(latest)
	}
}

// run follows the policies until ctx ends.
func (f *follower) run(ctx context.Context) {
	for ctx.Err() == nil {
		pace := backoff.Backoff{First: followAgain, Longest: followAgain}
		err := f.follow(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, policies.ErrNoBucket):
			pace = backoff.Backoff{First: bucketAgain, Longest: bucketAgain}
		case err != nil:
			f.complain(err)
		}
		pace.Wait(ctx)
	}
}

func (f *follower) follow(ctx context.Context) error {
	bucket, err := policies.Open(ctx, f.client.js, f.client.config.Prefix)
	if err != nil {
		return err
	}
	return bucket.Watch(ctx, f.take)
}

// take puts a revision in force. One that is not valid is passed over, as the
// service does.
func (f *follower) take(r policies.Revision) {
	if r.Number <= f.seen {
		return
	}
	f.seen = r.Number
	set := f.client.config.Policies
	if !r.Removed() {
		parsed, err := r.Parse()
		if err != nil {
			f.client.log.Error("policies were refused; those before stay in force", "revision", r.Number, "error", err)
			return
		}
		set = parsed
	}
	f.client.policies.Store(set)
}

func (f *follower) complain(err error) {
	f.warn.Do(func() {
		f.client.log.Warn("the policies in force cannot be read; those of this program apply", "error", err)
	})
}
