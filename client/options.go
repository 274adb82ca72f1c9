package client

import (
	"context"
	"errors"
	"fmt"
)

// ExecuteOption modifies one call of [Execute].
type ExecuteOption func(*run) error

// WithHandOver lets the operation continue in the service when no attempt is left here: it is
// submitted with the number of attempts made and the last error, and Execute returns a
// [*HandedOverError]. That happens when the attempts of this process are used up, when the key's
// breaker or a limit allows none, and when the context's deadline leaves no time for one; not
// when the failure is not retryable, and not when the caller cancels.
//
// The policy's maxAttempts covers both. Half of them, rounded up, are made here unless
// [WithMaxAttempts] sets another number.
//
// From s, the payload, the target and the fields that describe the operation to its target are
// used; service, operation type, account, campaign, priority and overrides come from the [Call].
// What Execute calls in this process and what the target does must be the same operation.
func WithHandOver(s Submission) ExecuteOption {
	return func(r *run) error {
		if err := r.bound.client.connected(); err != nil {
			return fmt.Errorf("handing over: %w", err)
		}
		r.handOver = &s
		if r.id == "" {
			r.id = s.EventID
		}
		if r.most == 0 {
			r.most = (r.bound.policy.MaxAttempts + 1) / 2
		}
		return nil
	}
}

// WithMaxAttempts bounds the attempts made here, at least 1. The policy's maxAttempts applies as
// well.
func WithMaxAttempts(n int) ExecuteOption {
	return func(r *run) error {
		if n < 1 {
			return fmt.Errorf("%d attempts are less than 1", n)
		}
		r.most = n
		return nil
	}
}

// WithEventID sets the CloudEvents id of the operation, which its events carry; a new one by
// default. Source and id identify the operation, also after it is handed over.
func WithEventID(id string) ExecuteOption {
	return func(r *run) error {
		if id == "" {
			return errors.New("the id is empty")
		}
		r.id = id
		return nil
	}
}

// run returns a run with the options applied.
func (b *bound) run(ctx context.Context, options []ExecuteOption) (*run, error) {
	r := &run{bound: b, ctx: ctx}
	for _, option := range options {
		if err := option(r); err != nil {
			return nil, fmt.Errorf("client: an option of Execute: %w", err)
		}
	}
	return r, nil
}
