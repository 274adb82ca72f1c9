package client

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

// Call describes one kind of call to [Execute]: the service and the operation type, the
// account and the campaign if there are such, and overrides. The policies in force have the
// policy for these; the overrides are laid over it.
//
// Make one for each kind of call and keep it: it remembers its policy until other policies
// come in force. A Call must not be changed or copied once it is used. It is safe for
// concurrent use.
type Call struct {
	// Service and Operation make the key, service:operation; see
	// [events.CheckName] for what they may be.
	Service, Operation string
	// Account and Campaign may be empty.
	Account, Campaign string
	// Priority ranks the operations; empty is the policy's priority.
	Priority Priority
	// Overrides change the policy by the keys of the policy file: any of maxAttempts,
	// baseDelay, maxDelay, multiplier, backoffStrategy, jitterType, attemptTimeout and
	// maxElapsedTime. The policy bounds each, see [policy.Policy.Override]. They go along
	// when an operation is handed over.
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

// bound is a Call with the policy that it resolved to.
type bound struct {
	client   *Client
	set      *policy.Set
	call     *Call
	policy   *policy.Policy
	priority events.Priority
	timeout  time.Duration // of one attempt
	key      *key
	breaker  *breaker.Breaker // nil without one
}

// bind resolves the call, unless that was done for the policies in force already.
func (call *Call) bind(c *Client) (*bound, error) {
	set := c.policies.Load()
	if b := call.bound.Load(); b != nil && b.client == c && b.set == set {
		return b, nil
	}
	b, err := c.resolve(set, call)
	if err != nil {
		return nil, fmt.Errorf("client: the policy of %q:%q: %w", oneLine(call.Service), oneLine(call.Operation), err)
	}
	call.bound.Store(b)
	return b, nil
}

func (c *Client) resolve(set *policy.Set, call *Call) (*bound, error) {
	var issues []error
	for _, n := range []struct{ what, name string }{{"service", call.Service}, {"operation", call.Operation}} {
		if err := events.CheckName(n.name); err != nil {
			issues = append(issues, fmt.Errorf("%s %w", n.what, err))
		}
	}
	priority, err := events.ParsePriority(string(call.Priority))
	if err != nil {
		issues = append(issues, err)
	}
	overrides, err := policy.ParseOverrides(overridden(call.Overrides))
	issues = append(issues, err)
	for name := range call.Overrides {
		if !isOverride(name) {
			issues = append(issues, fmt.Errorf("%q is no key that an operation may override", oneLine(name)))
		}
	}
	if err := errors.Join(issues...); err != nil {
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
	// Limits and breaker belong to the key as a whole, for accounts and campaigns share it.
	shared := set.Resolve(policy.Query{Service: call.Service, Operation: call.Operation})
	b.key.limit(&shared)
	if shared.EnableCircuitBreaker {
		b.breaker = c.breakers.Breaker(b.key.name, shared.BreakerSettings())
	}
	return b, nil
}

// overrideNames are the keys that an operation may override, in the letter case of attributes.
var overrideNames = map[string]bool{
	"maxattempts": true, "basedelay": true, "maxdelay": true, "multiplier": true, "backoffstrategy": true,
	"jittertype": true, "attempttimeout": true, "maxelapsedtime": true,
}

func isOverride(name string) bool { return overrideNames[strings.ToLower(name)] }

// overridden returns overrides by the names of their attributes.
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
