package policy

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/rebound-mq/rebound/internal/spelling"
)

// Overrides are what an operation asks for instead of its policy's values. The zero
// value asks for nothing.
type Overrides struct {
	wished keySet
	policy Policy // only the fields of wished are valid
}

// OverridableKeys returns the keys that an operation may override, sorted.
func OverridableKeys() []string {
	var names []string
	for i := range keys {
		if keys[i].Overridable {
			names = append(names, keys[i].Name)
		}
	}
	slices.Sort(names)
	return names
}

// keyOf maps the names of attributes to the keys of that name.
var keyOf = func() map[string]int {
	index := make(map[string]int, len(keys))
	for i := range keys {
		index[strings.ToLower(keys[i].Name)] = i
	}
	return index
}()

// Overridable reports whether an attribute of that name can override a policy.
func Overridable(attribute string) bool {
	i, ok := keyOf[attribute]
	return ok && keys[i].Overridable
}

// Unmistakable reports whether an attribute of that name is meant to override a policy and
// cannot: it is the name of a key of a breaker or a limit, which nothing else is called.
func Unmistakable(attribute string) bool {
	i, ok := keyOf[attribute]
	return ok && keys[i].Shared && keys[i].read != nil
}

// RefuseOverride returns nil for the name of a key that an operation may override, in any
// letter case. Otherwise the error says why it may not, and which it may.
func RefuseOverride(name string) error {
	i, known := keyOf[strings.ToLower(name)]
	var why string
	switch {
	case known && keys[i].Overridable:
		return nil
	case !known:
		why = "is no key of a policy"
		if near := spelling.Nearest(name, OverridableKeys()); near != "" {
			why += fmt.Sprintf(", did you mean %s", near)
		}
	case keys[i].Shared && keys[i].read != nil:
		why = "belongs to the breaker or a limit that all operations of the key share"
	case i == keyPriority, i == keyTarget, i == keyDelivery:
		why = "is no override but a property of the operation itself"
	default:
		why = "is the policy's alone"
	}
	return fmt.Errorf("%q cannot be overridden by an operation: it %s; an operation may override %s", short(name), why, strings.Join(OverridableKeys(), ", "))
}

// ParseOverrides reads the overrides among an operation's attributes and ignores other
// attributes. Every issue is reported, each as a [*Issue].
func ParseOverrides(attributes map[string]string) (Overrides, error) {
	var o Overrides
	var issues []error
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		if !Overridable(name) {
			continue
		}
		i := keyOf[name]
		if f := keys[i].read(&o.policy, attributes[name]); f != nil {
			issues = append(issues, &Issue{Key: name, Problem: f.problem, Hint: f.hint})
			continue
		}
		o.wished.add(i)
	}
	return o, errors.Join(issues...)
}

// Override returns p with the overrides o. Those of attempts, time and delays are bounded
// by p: an operation may ask for fewer attempts, for less time, and for delays within p's
// cap.
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
