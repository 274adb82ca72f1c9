package policy

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Name returns the name that the set was parsed under.
func (s *Set) Name() string { return s.name }

// Source returns a copy of the file that the set was parsed from, byte for byte.
func (s *Set) Source() []byte { return slices.Clone(s.source) }

// YAML returns the policies in force as a policy file, the built-in ones
// included, with a comment behind every value that says where it was set. It
// has the layers of the default and of the named services, of all when none is
// named. Read by [Parse], it makes the same policies.
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

// within returns the mapping of a scope in the file root, made where there is
// none.
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

// fill puts the keys of a layer into a mapping, before what stands there.
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

// textNode returns a text, quoted where YAML would read something else.
func textNode(s string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s}
}

// plainNode returns a number, a truth or a word, which is never quoted.
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
