package scheduler

import (
	"errors"
	"slices"
)

// overridable are the keys of a policy that an operation may override, by the
// names of their attributes.
var overridable = map[string]string{
	"maxattempts": "maxAttempts", "basedelay": "baseDelay", "maxdelay": "maxDelay", "multiplier": "multiplier",
	"backoffstrategy": "backoffStrategy", "jittertype": "jitterType", "attempttimeout": "attemptTimeout", "maxelapsedtime": "maxElapsedTime",
}

// Overrides are an operation's own wishes.
type Overrides struct {
	wished map[string]bool
	policy Policy
}

// ParseOverrides reads the overrides among attributes and reports every fault.
func ParseOverrides(attributes map[string]string) (Overrides, error) {
	o := Overrides{wished: make(map[string]bool, len(attributes)), policy: fallback()}
	names := make([]string, 0, len(attributes))
	for name := range attributes {
		names = append(names, name)
	}
	slices.Sort(names)
	var faults []error
	for _, name := range names {
		key, ok := overridable[name]
		if !ok {
			continue
		}
		if err := keys[key](&o.policy, attributes[name]); err != nil {
			faults = append(faults, &PolicyFault{Key: name, Problem: err.Error()})
			continue
		}
		o.wished[name] = true
	}
	return o, errors.Join(faults...)
}

// Override returns p with the overrides o, each bounded by p: an operation may
// ask for fewer attempts, a shorter time and a delay within the policy's cap.
func (p *Policy) Override(o Overrides) *Policy {
	next := *p
	if o.wished["maxattempts"] {
		next.MaxAttempts = min(o.policy.MaxAttempts, p.MaxAttempts)
	}
	if o.wished["maxdelay"] {
		next.MaxDelay = min(o.policy.MaxDelay, p.MaxDelay)
	}
	if o.wished["basedelay"] {
		next.BaseDelay = o.policy.BaseDelay
	}
	next.BaseDelay = min(next.BaseDelay, next.MaxDelay)
	if o.wished["multiplier"] {
		next.Multiplier = o.policy.Multiplier
	}
	if o.wished["backoffstrategy"] {
		next.BackoffStrategy = o.policy.BackoffStrategy
	}
	if o.wished["jittertype"] {
		next.JitterType = o.policy.JitterType
	}
	if o.wished["attempttimeout"] {
		next.AttemptTimeout = min(o.policy.AttemptTimeout, p.AttemptTimeout)
	}
	if o.wished["maxelapsedtime"] && (p.MaxElapsedTime == 0 || o.policy.MaxElapsedTime < p.MaxElapsedTime) {
		next.MaxElapsedTime = o.policy.MaxElapsedTime
	}
	return &next
}
