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

// Call names the policy of operations that [Execute] makes: the one that the
// policies in force have for the service and the operation type, for the account
// and the campaign if there are such, with the overrides laid over it.
//
// Make one for each kind of operation and keep it: what it resolves to is kept
// with it, until other policies come in force. A Call must not be changed or
// copied once it is used. It is safe for concurrent use.
type Call struct {
	// Service and Operation make the key, service:operation; see
	// [events.CheckName] for what they may be.
	Service, Operation string
	// Account and Campaign may be empty.
	Account, Campaign string
	// Priority is the operations' own; empty is the policy's.
	Priority Priority
	// Overrides are the operations' own wishes, by the policy file's keys: any of
	// maxAttempts, baseDelay, maxDelay, multiplier, backoffStrategy, jitterType,
	// attemptTimeout and maxElapsedTime. Each is bounded by the policy, see
	// [policy.Policy.Override]. They go along when an operation is handed over.
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

// bound is what a Policy resolved to.
type bound struct {
	client   *Client
	set      *policy.Set
	source   *Call
	policy   *policy.Policy
	priority events.Priority
	timeout  time.Duration // of one attempt
	key      *key
	breaker  *breaker.Breaker // nil without one
}

// bind returns what p resolves to.
func (p *Call) bind(c *Client) (*bound, error) {
	set := c.policies.Load()
	if b := p.bound.Load(); b != nil && b.client == c && b.set == set {
		return b, nil
	}
	b, err := c.resolve(set, p)
	if err != nil {
		return nil, fmt.Errorf("client: the policy of %q:%q: %w", oneLine(p.Service), oneLine(p.Operation), err)
	}
	p.bound.Store(b)
	return b, nil
}

func (c *Client) resolve(set *policy.Set, p *Call) (*bound, error) {
	var faults []error
	for _, n := range []struct{ what, name string }{{"service", p.Service}, {"operation", p.Operation}} {
		if err := events.CheckName(n.name); err != nil {
			faults = append(faults, fmt.Errorf("%s %w", n.what, err))
		}
	}
	priority, err := events.ParsePriority(string(p.Priority))
	if err != nil {
		faults = append(faults, err)
	}
	overrides, err := policy.ParseOverrides(overridden(p.Overrides))
	faults = append(faults, err)
	for name := range p.Overrides {
		if !isOverride(name) {
			faults = append(faults, fmt.Errorf("%q is no key that an operation may override", oneLine(name)))
		}
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}

	found := set.Resolve(policy.Query{Service: p.Service, Operation: p.Operation, Account: p.Account, Campaign: p.Campaign})
	if p.Priority == "" {
		priority = found.Priority
	}
	b := &bound{
		client: c, set: set, source: p, policy: found.Override(overrides), priority: priority,
		key: c.key(p.Service, p.Operation),
	}
	b.timeout = b.policy.AttemptTimeout
	// What accounts and campaigns share belongs to the key as a whole.
	shared := set.Resolve(policy.Query{Service: p.Service, Operation: p.Operation})
	b.key.limit(&shared)
	if shared.EnableCircuitBreaker {
		b.breaker = c.breakers.Breaker(b.key.name, shared.BreakerSettings())
	}
	return b, nil
}

// overrideNames are the keys that an operation may override, as attributes.
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
