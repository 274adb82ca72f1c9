package client

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

// Call describes one kind of call to [Execute]: the service, the operation type, the account and
// campaign if any, and overrides of the policy that these select.
//
// Make one for each kind of call and keep it: it caches its resolved policy until other policies
// come into force. A Call must not be changed or copied after its first use. It is safe for
// concurrent use.
type Call struct {
	// Service and Operation make the key, service:operation; [events.CheckName] says which names
	// are valid.
	Service, Operation string
	// Account and Campaign may be empty.
	Account, Campaign string
	// Priority ranks the operations; the policy's priority when empty.
	Priority Priority
	// Overrides replace settings of the policy, by their keys in the policy file: those of
	// [policy.OverridableKeys]. The policy bounds attempts, time and delays (see
	// [policy.Policy.Override]). Breakers and limits belong to the key and cannot be overridden.
	// Overrides are submitted with an operation that is handed over.
	Overrides map[string]string

	bound atomic.Pointer[bound]
}

// Priority ranks operations, see [events.Priority].
type Priority string

// The priorities.
const (
	Critical Priority = "critical"
	High     Priority = "high"
	Normal   Priority = "normal"
	Low      Priority = "low"
)

// bound is a Call with its resolved policy.
type bound struct {
	client   *Client
	set      *policy.Set
	call     *Call
	policy   *policy.Policy
	priority events.Priority
	timeout  time.Duration // of one attempt
	key      *key
	limits   *policy.Policy   // of the key's retries
	breaker  *breaker.Breaker // nil without one
	guarded  bool             // the policy has a breaker
}

// bind resolves the call, unless it is already resolved for the policies in force.
func (call *Call) bind(ctx context.Context, c *Client) (*bound, error) {
	set := c.policies.Load()
	if b := call.bound.Load(); b != nil && b.client == c && b.set == set {
		return b, nil
	}
	b, err := c.resolve(set, call)
	if err != nil {
		return nil, fmt.Errorf("client: the policy of %q:%q: %w", oneLine(call.Service), oneLine(call.Operation), err)
	}
	c.sharing.use(ctx, b.key.name)
	call.bound.Store(b)
	return b, nil
}

func (c *Client) resolve(set *policy.Set, call *Call) (*bound, error) {
	var errs []error
	for _, n := range []struct{ what, name string }{{"service", call.Service}, {"operation", call.Operation}} {
		if err := events.CheckName(n.name); err != nil {
			errs = append(errs, fmt.Errorf("%s %w", n.what, err))
		}
	}
	priority, err := events.ParsePriority(string(call.Priority))
	if err != nil {
		errs = append(errs, err)
	}
	overrides, err := policy.ParseOverrides(overridden(call.Overrides))
	errs = append(errs, err)
	errs = append(errs, checkOverrides(call.Overrides))
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}

	found := set.Resolve(policy.Query{Service: call.Service, Operation: call.Operation, Account: call.Account, Campaign: call.Campaign})
	if call.Priority == "" {
		priority = found.Priority
	}
	b := &bound{
		client: c, set: set, call: call, policy: found.Override(overrides), priority: priority,
		key: c.key(call.Service, call.Operation),
	}
	b.timeout = b.policy.AttemptTimeout
	// Accounts and campaigns share the limits and the breaker, which belong to the key.
	shared := set.Resolve(policy.Query{Service: call.Service, Operation: call.Operation})
	if b.guarded = shared.EnableCircuitBreaker; b.guarded || c.sharing.store != "" {
		b.breaker = c.sharing.group.Breaker(b.key.name, shared.BreakerSettings())
	}
	shared.EnableCircuitBreaker, shared.DependsOn = false, nil // the gates see no breakers
	shared.RespectGlobalBackpressure = b.policy.RespectGlobalBackpressure
	b.limits = &shared
	return b, nil
}

// checkOverrides refuses the names of what an operation may not override.
func checkOverrides(overrides map[string]string) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(overrides)) {
		errs = append(errs, policy.RefuseOverride(name))
	}
	return errors.Join(errs...)
}

// overridden returns overrides keyed by attribute name.
func overridden(overrides map[string]string) map[string]string {
	if len(overrides) == 0 {
		return nil
	}
	out := make(map[string]string, len(overrides))
	for name, value := range overrides {
		out[strings.ToLower(name)] = value
	}
	return out
}
