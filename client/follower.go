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
	// followRetry is the mean pause before the policies are followed again after an error.
	followRetry = 2 * time.Second
	// bucketRetry is the mean pause before looking again for a bucket that no service has made.
	bucketRetry = 30 * time.Second
)

// follower keeps the client's policies in step with those in force in the service.
type follower struct {
	client *Client
	warn   rate.Sometimes
	seen   uint64 // latest revision read
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
		f.warnUnreadable(err)
	default:
		f.take(latest)
	}
}

// run follows the policies until ctx ends.
func (f *follower) run(ctx context.Context) {
	for ctx.Err() == nil {
		pace := backoff.Backoff{First: followRetry, Longest: followRetry}
		err := f.follow(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, policies.ErrNoBucket):
			pace = backoff.Backoff{First: bucketRetry, Longest: bucketRetry}
		case err != nil:
			f.warnUnreadable(err)
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

// take puts a revision in force. It ignores an invalid one, as the service does.
func (f *follower) take(r policies.Revision) {
	if r.Number <= f.seen {
		return
	}
	f.seen = r.Number
	set := f.client.config.Policies
	if !r.Removed() {
		parsed, err := r.Parse()
		if err != nil {
			f.client.log.Error("an invalid policy revision is ignored; the previous policies stay in force", "revision", r.Number, "error", err)
			return
		}
		set = parsed
	}
	f.client.policies.Store(set)
}

func (f *follower) warnUnreadable(err error) {
	f.warn.Do(func() {
		f.client.log.Warn("the policies in force cannot be read; the client keeps those it has", "error", err)
	})
}
