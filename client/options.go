package client

import (
	"context"
	"errors"
	"fmt"
)

// ExecuteOption changes one call of [Execute].
type ExecuteOption func(*run) error

// WithHandOver makes the operation go on in the service when there is no attempt
// left here: it is submitted with the attempts that were made and the last
// error, and Execute returns a [*HandedOverError]. That happens when the attempts
// of this process are used up, when the breaker or a budget of the key lets none
// through, and when the context's deadline leaves no time for one; not when the
// failure is not retryable, and not when the caller cancels.
//
// The policy's attempts are for both together. Half of them, rounded up, are
// made here, or as many as [WithMaxAttempts] says.
//
// Of s, Data, Target and what else describes the operation to its target are
// used; service, operation type, account, campaign, priority and overrides are
// those of the policy. What Execute calls in this process and what the target
// does must be the same operation.
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

// WithMaxAttempts bounds the attempts that are made here, from 1. The policy's
// maxAttempts bounds them as well.
func WithMaxAttempts(n int) ExecuteOption {
	return func(r *run) error {
		if n < 1 {
			return fmt.Errorf("%d attempts are less than 1", n)
		}
		r.most = n
		return nil
	}
}

// WithEventID sets the CloudEvents id of the operation, which its events bear; by
// default it is a new one. The client's source and the id identify the
// operation, also when it is handed over.
func WithEventID(id string) ExecuteOption {
	return func(r *run) error {
		if id == "" {
			return errors.New("the id is empty")
		}
		r.id = id
		return nil
	}
}

// run returns a run with options.
func (b *bound) run(ctx context.Context, options []ExecuteOption) (*run, error) {
	r := &run{bound: b, ctx: ctx}
	for _, option := range options {
		if err := option(r); err != nil {
			return nil, fmt.Errorf("client: an option of Execute: %w", err)
		}
	}
	return r, nil
}
