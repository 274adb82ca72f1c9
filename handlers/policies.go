package handlers

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"github.com/rebound-mq/rebound/internal/policies"
	"github.com/rebound-mq/rebound/internal/policies/summary"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/scheduler/policy"
	"github.com/rebound-mq/rebound/schemas"
)

// policyFollower keeps the policies of the bucket in force. While the bucket has none,
// those that the instance was started with are in force.
type policyFollower struct {
	bucket *policies.Bucket
	start  *policy.Set
	mark   string // names start
	log    *slog.Logger

	set atomic.Pointer[policy.Set] // in force

	watch streams.Rewatch
	mu    sync.Mutex
	state schemas.PolicyState // guarded by mu
	seen  uint64              // the latest revision received; guarded by mu
}

// follow opens the bucket and puts its latest policies in force.
func follow(ctx context.Context, js jetstream.JetStream, config Config, log *slog.Logger) (*policyFollower, error) {
	bucket, err := policies.Ensure(ctx, js, config.Prefix, config.Limits.Replicas)
	if err != nil {
		return nil, err
	}
	f := &policyFollower{bucket: bucket, start: config.Policies, mark: policyMark(config.Policies), log: log}
	f.put(config.Policies, policies.Revision{})
	latest, err := bucket.Current(ctx)
	if err != nil {
		return nil, err
	}
	f.take(latest)
	return f, nil
}

// run follows the bucket until ctx ends. It restarts a watch that breaks off.
func (f *policyFollower) run(ctx context.Context) {
	f.watch.Run(ctx, func(ctx context.Context) error { return f.bucket.Watch(ctx, f.take) }, func(err error) {
		f.log.Warn("watching the policies failed and will be retried", "error", err)
	})
}

// restore puts the policies in force into the bucket, which was made anew, and watches
// it anew: its revisions count from 1 again. If another instance was faster, its
// policies count.
func (f *policyFollower) restore(ctx context.Context) error {
	state, set := f.standing()
	if state.Revision > 0 {
		latest, err := f.bucket.Current(ctx)
		if err == nil && latest.Number == 0 {
			latest, err = f.bucket.Apply(ctx, state.Name, set.Source(), 0)
		}
		if err != nil && !errors.Is(err, policies.ErrChanged) {
			return err
		}
		if err == nil {
			f.log.Info("the policies in force were put back into their bucket, which was made anew", "policies", state.Name, "revision", latest.Number)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen = 0
	f.watch.Again()
	return nil
}

// take puts a revision in force. It refuses an invalid one, which somebody must have
// stored without [policies.Bucket.Apply], and the one before stays.
func (f *policyFollower) take(r policies.Revision) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.Number <= f.seen {
		return
	}
	f.seen = r.Number
	set := f.start
	if !r.Removed() {
		var err error
		if set, err = r.Parse(); err != nil {
			f.state.Refused = &schemas.RefusedPolicies{Revision: r.Number, Problem: err.Error()}
			f.log.Error("policies were refused; those before stay in force", "revision", r.Number, "in force", f.state.Name, "error", err)
			return
		}
	}
	f.put(set, r)
	f.log.Info("policies are in force", "policies", f.state.Name, "revision", r.Number)
}

// put must be called with mu held, or before f is shared.
func (f *policyFollower) put(set *policy.Set, r policies.Revision) {
	f.state = schemas.PolicyState{Revision: r.Number, Name: set.Name()}
	if !r.At.IsZero() {
		f.state.AppliedAt = r.At.UTC()
	}
	f.set.Store(set)
}

// inForce returns the policies in force.
func (f *policyFollower) inForce() *policy.Set { return f.set.Load() }

// standing returns the policies in force and their state.
func (f *policyFollower) standing() (schemas.PolicyState, *policy.Set) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state, f.set.Load()
}

// startedWith returns a name of the policies that the instance was started with, which
// differs if the policies differ. It is empty while applied ones are in force.
func (f *policyFollower) startedWith() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.state.Revision > 0 {
		return ""
	}
	return f.mark
}

// policyMark names a set of policies by its name and a hash of its contents.
func policyMark(set *policy.Set) string {
	sum := sha256.Sum256(set.Source())
	return fmt.Sprintf("%s (%x)", set.Name(), sum[:4])
}

// policyRequests answers requests about policies.
type policyRequests struct {
	instance string
	follower *policyFollower
}

func (q policyRequests) show(context.Context, micro.Request) (any, error) {
	state, set := q.follower.standing()
	return schemas.PolicyShow{Instance: q.instance, PolicyState: state, Source: string(set.Source())}, nil
}

func (q policyRequests) check(_ context.Context, r micro.Request) (any, error) {
	var request schemas.PolicySource
	if err := read(r, &request); err != nil {
		return nil, err
	}
	set, err := policy.Parse(request.FileName(), []byte(request.Source))
	check := schemas.PolicyCheck{Valid: err == nil, Issues: []schemas.PolicyIssue{}}
	for _, i := range policy.Issues(err) {
		check.Issues = append(check.Issues, shownIssue(i))
	}
	if err == nil {
		for _, i := range set.Notes() {
			check.Notes = append(check.Notes, shownIssue(&i))
		}
	}
	return check, nil
}

// shownIssue returns an issue as the API shows it.
func shownIssue(i *policy.Issue) schemas.PolicyIssue {
	return schemas.PolicyIssue{File: i.File, Line: i.Line, Column: i.Column, Key: i.Key, Problem: i.Problem, Hint: i.Hint}
}

func (q policyRequests) apply(ctx context.Context, r micro.Request) (any, error) {
	var request schemas.PolicySource
	if err := read(r, &request); err != nil {
		return nil, err
	}
	if request.Source == "" {
		return nil, badRequestError{errors.New("source is missing")}
	}
	set, err := policy.Parse(request.FileName(), []byte(request.Source))
	if err != nil {
		return q.applied(policies.Revision{}, err)
	}
	if gone := policies.Gone(q.follower.inForce(), set); len(gone) > 0 && len(set.Sections()) == 0 && !request.AllowEmpty {
		return nil, badRequestError{fmt.Errorf("it has no policies and would take away those of %s; set allowEmpty to apply it all the same", strings.Join(gone, ", "))}
	}
	current, err := q.follower.bucket.Current(ctx)
	if err != nil {
		return nil, err
	}
	applied, err := q.follower.bucket.Apply(ctx, request.FileName(), []byte(request.Source), current.Number)
	return q.applied(applied, err)
}

func (q policyRequests) rollback(ctx context.Context, r micro.Request) (any, error) {
	var request schemas.PolicyRollback
	if err := read(r, &request); err != nil {
		return nil, err
	}
	if request.Revision == 0 {
		return nil, badRequestError{errors.New("revision is missing")}
	}
	applied, err := q.follower.bucket.Rollback(ctx, request.Revision)
	return q.applied(applied, err)
}

func (policyRequests) applied(r policies.Revision, err error) (any, error) {
	switch {
	case errors.Is(err, policies.ErrNoRevision):
		return nil, notFoundError{err}
	case len(policy.Issues(err)) > 0, errors.Is(err, policies.ErrChanged):
		return nil, badRequestError{err}
	case err != nil:
		return nil, err
	}
	return schemas.PolicyApplied{Revision: r.Number}, nil
}

func (q policyRequests) history(ctx context.Context, _ micro.Request) (any, error) {
	history, err := q.follower.bucket.History(ctx)
	if err != nil {
		return nil, err
	}
	list := schemas.PolicyHistory{Revisions: []schemas.PolicyRevision{}}
	for _, r := range history {
		list.Revisions = append(list.Revisions, summary.Of(r))
	}
	return list, nil
}

func (q policyRequests) explain(_ context.Context, r micro.Request) (any, error) {
	var request schemas.PolicyQuery
	if err := read(r, &request); err != nil {
		return nil, err
	}
	e, err := request.Explain(q.follower.inForce())
	if err != nil {
		return nil, badRequestError{err}
	}
	return e, nil
}
