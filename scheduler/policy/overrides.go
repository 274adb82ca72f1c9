package policy

import (
	"errors"
	"maps"
	"slices"
	"strings"
)

// overridable are the keys that an operation may override, by the names of
// their attributes.
var overridable = func() map[string]int {
	names := make(map[string]int)
	for _, name := range []string{
		"maxAttempts", "baseDelay", "maxDelay", "multiplier", "backoffStrategy", "jitterType", "attemptTimeout", "maxElapsedTime",
	} {
		names[strings.ToLower(name)] = keyIndex[name]
	}
	return names
}()

// Overridable reports whether an attribute of that name overrides a policy.
func Overridable(attribute string) bool {
	_, ok := overridable[attribute]
	return ok
}

// Overrides are an operation's own wishes. The zero value has none.
type Overrides struct {
	wished keySet
	policy Policy // only the fields of wished mean something
}

// ParseOverrides reads the overrides among an operation's attributes; others it
// leaves alone. Every fault is reported, each as a [*PolicyFault].
func ParseOverrides(attributes map[string]string) (Overrides, error) {
	var o Overrides
	var faults []error
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		i, ok := overridable[name]
		if !ok {
			continue
		}
		if f := keys[i].read(&o.policy, attributes[name]); f != nil {
			faults = append(faults, &PolicyFault{Key: name, Problem: f.problem, Meant: f.meant})
			continue
		}
		o.wished.add(i)
	}
	return o, errors.Join(faults...)
}

// Override returns p with the overrides o, each bounded by p: an operation may
// ask for fewer attempts, for a shorter time, and for delays within p's cap.
func (p *Policy) Override(o Overrides) *Policy {
	next := *p
	o.wished.apply(&next, &o.policy)
	next.MaxAttempts = min(next.MaxAttempts, p.MaxAttempts)
	next.MaxDelay = min(next.MaxDelay, p.MaxDelay)
	next.BaseDelay = min(next.BaseDelay, next.MaxDelay)
	next.AttemptTimeout = min(next.AttemptTimeout, p.AttemptTimeout)
	if p.MaxElapsedTime > 0 && (next.MaxElapsedTime == 0 || next.MaxElapsedTime > p.MaxElapsedTime) {
		next.MaxElapsedTime = p.MaxElapsedTime
	}
	return &next
}
