package policy

import (
	"fmt"

	"github.com/rebound-mq/rebound/events"
)

// Explanation says how operations are retried and where that was set.
type Explanation struct {
	Query Query `json:"query"`
	// Policy is the policy in force, overrides applied.
	Policy Policy `json:"-"`
	// Values are the policy key by key, in the order of [Keys]; each rule is one
	// value.
	Values []Value `json:"values"`
	// Priority is the priority that delays are computed for: the query's, or
	// else the policy's.
	Priority events.Priority `json:"priority"`
	// Delays are how the delays are distributed, after attempt 1, attempt 2 and
	// so on to the last but one that the policy allows, at most
	// [MaxExplained] of them. They are those of an operation of which no signals
	// are known, and without a Retry-After.
	Delays []Delays `json:"delays"`
}

// Value is the value of a key of a policy and where it was set.
type Value struct {
	// Key is the key, as maxDelay, or rules[0].
	Key string `json:"key"`
	// Text is the value, as a policy file writes it; a rule is told in words.
	Text   string `json:"text"`
	Origin Origin `json:"origin"`
	// Note says what else is to be known, such as the wish of an operation that
	// the policy bounds, or is empty.
	Note string `json:"note,omitempty"`
}

// MaxExplained is for how many attempts an [Explanation] has delays.
// [Policy.Delays] tells them for any other.
const MaxExplained = 100

// Explain says how the operations of q are retried and where that was set. o are
// the operation's own overrides; its zero value is none.
func (s *Set) Explain(q Query, o Overrides) Explanation {
	resolved := s.Resolve(q)
	e := Explanation{Query: q, Policy: *resolved.Override(o), Priority: q.Priority}
	if !q.PriorityGiven {
		e.Priority = e.Policy.Priority
	}
	t := traced(s.applying(q))
	for i := range keys {
		k := &keys[i]
		if i == keyRules {
			for j, r := range e.Policy.Rules {
				e.Values = append(e.Values, Value{Key: fmt.Sprintf("rules[%d]", j), Text: r.String(), Origin: r.origin})
			}
			continue
		}
		v := Value{Key: k.Name, Text: k.text(&e.Policy), Origin: t.origins[i]}
		v.Note, v.Origin = note(k, i, &t.policy, &resolved, o, v)
		e.Values = append(e.Values, v)
	}
	for attempt := 1; attempt < min(e.Policy.MaxAttempts, MaxExplained+1); attempt++ {
		e.Delays = append(e.Delays, e.Policy.Delays(attempt, e.Priority, Signals{}))
	}
	return e
}

// note returns what else is to be said of the value v of key i, and where it is
// from when it is not what the layers said.
func note(k *key, i int, said, resolved *Policy, o Overrides, v Value) (string, Origin) {
	from := Origin{Layer: OverridesLayer}
	switch wish := k.text(&o.policy); {
	case o.wished.has(i) && wish == v.Text:
		return "", from
	case o.wished.has(i):
		return "the operation asked for " + wish, v.Origin
	case v.Text != k.text(resolved):
		return "cut to maxDelay", from
	case v.Text != k.text(said):
		return "cut from " + k.text(said) + " to maxDelay", v.Origin
	}
	return "", v.Origin
}
