package policy

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"go.yaml.in/yaml/v4"

	"github.com/rebound-mq/rebound/events"
)

// Explanation says how operations are retried and where each value was set.
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
	// Delays are the distributions of the delays after attempt 1, attempt 2 and
	// so on up to the last but one that the policy allows, at most [MaxExplained].
	// They assume no known signals and no Retry-After.
	Delays []Delays `json:"delays"`
}

// Value is the value of a key of a policy and where it was set.
type Value struct {
	// Key is the key, such as maxDelay or rules[0].
	Key string `json:"key"`
	// Text is the value as policy files write it; a rule is described in words.
	Text   string `json:"text"`
	Origin Origin `json:"origin"`
	// Note is a remark, such as the override of an operation that the policy
	// bounds, or empty.
	Note string `json:"note,omitempty"`
}

// MaxExplained is how many delays an [Explanation] has at most. [Policy.Delays]
// returns them for any attempt.
const MaxExplained = 100

// Explain says how the operations of q are retried and where each value was set. o
// are the operation's own overrides; the zero value has none.
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
		if v.Note == "" && v.Origin.File == BuiltinFile {
			v.Note = reasons()[v.Origin.Layer][k.Name]
		}
		if v.Note == "" && e.budgets(i) {
			v.Note = budgetNote
		}
		e.Values = append(e.Values, v)
	}
	for attempt := 1; attempt < min(e.Policy.MaxAttempts, MaxExplained+1); attempt++ {
		e.Delays = append(e.Delays, e.Policy.Delays(attempt, e.Priority, Signals{}))
	}
	return e
}

// budgetNote says what the gate does with a budget.
const budgetNote = "while more urgent ones ask, low leaves half of it, normal a quarter, high a tenth"

// budgets reports whether key i limits operations by a budget of a time.
func (e *Explanation) budgets(i int) bool {
	return i == keyRetryBudgetPerMinute && e.Policy.RetryBudgetPerMinute > 0 || i == keyRetryBudgetPerHour && e.Policy.RetryBudgetPerHour > 0
}

// reasons returns the comments behind the values of the built-in policies, by layer and key.
var reasons = sync.OnceValue(func() map[string]map[string]string {
	all := make(map[string]map[string]string)
	var document yaml.Node
	if err := yaml.Load(builtin, &document); err != nil {
		panic(err) // the file is a constant, and a test reads it
	}
	root := document.Content[0].Content
	for i := 0; i+1 < len(root); i += 2 {
		layer := make(map[string]string)
		values := root[i+1].Content
		for j := 0; j+1 < len(values); j += 2 {
			layer[values[j].Value] = strings.TrimPrefix(values[j+1].LineComment, "# ")
		}
		all[root[i].Value] = layer
	}
	return all
})

// note returns a remark on the value v of key i, if there is one, and the value's
// origin.
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

// YAML returns the policies in force, including the built-in ones, as a policy file.
// A comment after each value says where it was set. The file has the layers of the
// default and of the named services, or of all if none is named. [Parse] reads the
// same policies from it.
func (s *Set) YAML(services ...string) ([]byte, error) {
	root := mapping()
	for _, sc := range s.scopes() {
		if sc.service == "" || len(services) == 0 || slices.Contains(services, sc.service) {
			fill(within(root, sc), s.layers[sc])
		}
	}
	var out bytes.Buffer
	dumper, err := yaml.NewDumper(&out, yaml.WithV4Defaults(), yaml.WithLineWidth(-1))
	if err == nil {
		err = dumper.Dump(&yaml.Node{Kind: yaml.DocumentNode, Content: []*yaml.Node{root}})
	}
	if err == nil {
		err = dumper.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("writing the policies as YAML: %w", err)
	}
	return out.Bytes(), nil
}

// within returns the mapping of a scope in the file root, adding it if needed.
func within(root *yaml.Node, sc scope) *yaml.Node {
	node := root
	down := func(name string) {
		next := find(node, name)
		if next == nil {
			next = mapping()
			put(node, name, next, "")
		}
		node = next
	}
	if sc.service == "" {
		down(defaultLayer)
	} else {
		down(sc.service)
	}
	for _, step := range []struct{ word, name string }{
		{wordOperations, sc.operation}, {wordAccounts, sc.account}, {wordCampaigns, sc.campaign},
	} {
		if step.name != "" {
			down(step.word)
			down(step.name)
		}
	}
	return node
}

// fill puts the keys of a layer into a mapping, before its other entries.
func fill(node *yaml.Node, l *layer) {
	nested := node.Content
	node.Content = nil
	for i := range keys {
		if !l.keys.has(i) {
			continue
		}
		origin := l.origins[i].position()
		name := keys[i].Name
		switch i {
		case keyTargets:
			put(node, name, listNode(l.values.Targets), origin)
		case keyDependsOn:
			put(node, name, listNode(l.values.DependsOn), origin)
		case keyTarget:
			put(node, name, textNode(l.values.Target), origin)
		case keyRules:
			put(node, name, ruleNodes(l.values.Rules), "")
		default:
			put(node, name, plainNode(keys[i].text(&l.values)), origin)
		}
	}
	node.Content = append(node.Content, nested...)
}

func ruleNodes(rules []Rule) *yaml.Node {
	list := &yaml.Node{Kind: yaml.SequenceNode}
	for _, r := range rules {
		node := mapping()
		put(node, "name", textNode(r.Name), r.origin.position())
		if r.Service != "" {
			put(node, "service", textNode(r.Service), "")
		}
		if len(r.Codes) > 0 {
			put(node, "codes", listNode(r.Codes), "")
		}
		if r.Message != "" {
			put(node, "message", textNode(r.Message), "")
		}
		put(node, "class", plainNode(r.Class.String()), "")
		if r.Limit > 0 {
			put(node, "limit", plainNode(strconv.Itoa(r.Limit)), "")
		}
		list.Content = append(list.Content, node)
	}
	return list
}

func mapping() *yaml.Node { return &yaml.Node{Kind: yaml.MappingNode} }

// put appends an entry to a mapping.
func put(node *yaml.Node, name string, value *yaml.Node, comment string) {
	if comment != "" {
		value.LineComment = "# " + oneLine(comment)
	}
	node.Content = append(node.Content, textNode(name), value)
}

// textNode returns a text node, quoted where YAML would read something else.
func textNode(s string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s}
}

// plainNode returns a node for a number, a boolean or a word, which is never quoted.
func plainNode(s string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Value: s} }

func listNode(texts []string) *yaml.Node {
	list := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
	for _, s := range texts {
		list.Content = append(list.Content, textNode(s))
	}
	return list
}

// flow returns texts as a list on one line.
func flow(texts []string) string { return "[" + strings.Join(texts, ", ") + "]" }
