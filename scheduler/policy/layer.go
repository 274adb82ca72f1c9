package policy

import (
	"cmp"
	"fmt"
	"slices"
)

// scope is what a layer applies to. An empty field matches any.
type scope struct{ service, operation, account, campaign string }

// matches reports whether the scope names an account or a campaign.
func (s scope) matches() bool { return s.account != "" || s.campaign != "" }

// place returns the scope without its account and campaign.
func (s scope) place() scope { return scope{service: s.service, operation: s.operation} }

// rank orders the layers that apply to one operation; higher ranks override lower
// ones. The default, the service and its operation type are lowest, then come the
// matches of an account, of a campaign, and of both together, each from the widest
// place to the narrowest.
func (s scope) rank() int {
	rank := 0
	if s.account != "" {
		rank += 3
	}
	if s.campaign != "" {
		rank += 6
	}
	if s.service != "" {
		rank++
	}
	if s.operation != "" {
		rank++
	}
	return rank
}

// compare orders scopes by name, for a stable order of output.
func (s scope) compare(t scope) int {
	return cmp.Or(cmp.Compare(s.service, t.service), cmp.Compare(s.operation, t.operation),
		cmp.Compare(s.account, t.account), cmp.Compare(s.campaign, t.campaign))
}

// layer holds what policy files set for one scope.
type layer struct {
	scope   scope
	keys    keySet         // the keys that are set
	values  Policy         // only the fields of keys are valid
	origins map[int]Origin // where each of keys was set, except rules, which have their own
}

func newLayer(s scope) *layer { return &layer{scope: s, origins: make(map[int]Origin)} }

// Origin is where a value of a policy was set.
type Origin struct {
	// Layer is the path of the layer in its policy file, such as
	// billing.operations.charge, or [OverridesLayer].
	Layer string `json:"layer"`
	// File is the name that the file was parsed under, [BuiltinFile] for the
	// built-in policies, and empty for overrides.
	File string `json:"file,omitempty"`
	// Line and Column are the position in the file, from 1; 0 for the built-in
	// policies and for overrides.
	Line   int `json:"line,omitempty"`
	Column int `json:"column,omitempty"`
}

// BuiltinFile is the file name of the built-in policies in origins.
const BuiltinFile = "built-in"

// OverridesLayer is the layer of an operation's own overrides.
const OverridesLayer = "overrides"

// defaultLayer is the layer under every service, and its name in policy files.
const defaultLayer = "default"

// String returns where the value was set, as "default, built-in" or "billing,
// policies.yaml:3:5".
func (o Origin) String() string {
	if o.File == "" {
		return o.Layer
	}
	return o.Layer + ", " + o.position()
}

// position returns the file and position where the value was set.
func (o Origin) position() string {
	if o.Line == 0 {
		return o.File
	}
	return fmt.Sprintf("%s:%d:%d", o.File, o.Line, o.Column)
}

// over lays l over p. Rules are inherited: l's own come first, and replace those of
// p that have the same name.
func (l *layer) over(p *Policy) {
	below := p.Rules
	l.keys.apply(p, &l.values)
	if l.keys.has(keyRules) {
		p.Rules = inherit(l.values.Rules, below)
	}
}

// applyTo lays a match over p. It may be nil. A match has no rules.
func (l *layer) applyTo(p *Policy) {
	if l != nil {
		l.keys.apply(p, &l.values)
	}
}

// inherit returns own followed by the rules of below that have other names.
func inherit(own, below []Rule) []Rule {
	rules := slices.Clone(own)
	for _, r := range below {
		if !slices.ContainsFunc(own, func(o Rule) bool { return o.Name == r.Name }) {
			rules = append(rules, r)
		}
	}
	return rules
}

// merge lays l over below, which may be nil, and returns both as one layer.
func (l *layer) merge(below *layer) *layer {
	merged := newLayer(l.scope)
	for _, from := range []*layer{below, l} {
		if from == nil {
			continue
		}
		from.over(&merged.values)
		merged.keys |= from.keys
		for i, origin := range from.origins {
			merged.origins[i] = origin
		}
	}
	return merged
}

// trace is a policy with the origin of every key.
type trace struct {
	policy  Policy
	origins []Origin // by place in keys
	ranks   []int    // the rank of the layer that each is from
}

// traced lays layers over each other, the first lowest.
func traced(layers []*layer) trace {
	t := trace{origins: make([]Origin, len(keys)), ranks: make([]int, len(keys))}
	for i := range t.origins {
		t.origins[i] = Origin{Layer: defaultLayer, File: BuiltinFile}
	}
	for _, l := range layers {
		l.over(&t.policy)
		for i, origin := range l.origins {
			t.origins[i], t.ranks[i] = origin, l.scope.rank()
		}
	}
	return t
}
