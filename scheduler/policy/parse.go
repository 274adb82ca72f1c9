package policy

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"go.yaml.in/yaml/v4"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/spelling"
)

// Parse reads a policy file and lays it over the built-in policies. name is
// the name of the file in issues and origins.
//
// A policy file is YAML, or JSON. At its top level are "default", which applies to
// every service, and the names of services. Each holds keys of a policy, see [Keys],
// and may hold "accounts" and "campaigns", which map the ids of accounts and
// campaigns to keys of their own; an account may hold campaigns too. A service may
// also hold "operations", which maps operation types to the same. [Set] says which
// layer overrides which.
//
//	default:
//	  maxAttempts: 5
//	  campaigns:
//	    launch: {priority: high}
//	billing:
//	  maxDelay: 2m
//	  operations:
//	    charge:
//	      baseDelay: 500
//	      accounts:
//	        premium_1: {maxAttempts: 10}
//
// A mapping at the top level that holds operationType, accountId or campaignId is in
// the form of the original design: its serviceType, operationType, accountId and
// campaignId say what it applies to, and its name is just a label.
//
// src is at most [MaxSource] bytes. Every issue is reported, up to a hundred,
// each as a [*Issue]; [Issues] takes them apart.
func Parse(name string, src []byte) (*Set, error) { return parse(Builtin(), name, src) }

// MaxSource is how many bytes a policy file may have, so that it fits into a NATS
// message.
const MaxSource = 1 << 20

// parser gathers the layers and the issues of one file.
type parser struct {
	issueList
	layers map[scope]*layer
}

// parse lays a file over below, which may be nil and is not changed.
func parse(below *Set, name string, src []byte) (*Set, error) {
	p := &parser{issueList{file: name}, make(map[scope]*layer)}
	if root := p.document(src); root != nil {
		p.root(root)
	}
	if p.count > 0 {
		return nil, p.err()
	}
	sections := p.sections()
	if below != nil {
		for sc, l := range below.layers {
			if above := p.layers[sc]; above != nil {
				l = above.merge(l)
			}
			p.layers[sc] = l
		}
	}
	set := newSet(name, slices.Clone(src), p.layers)
	if below != nil {
		set.sections = sections
	}
	p.check(set)
	if p.count > 0 {
		return nil, p.err()
	}
	return set, nil
}

// sections returns the names that the layers of the file have at its top level, sorted.
func (p *parser) sections() []string {
	var names []string
	for sc := range p.layers {
		names = append(names, cmp.Or(sc.service, defaultLayer))
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Words of policy files that are not keys of a policy.
const (
	wordOperations = "operations"
	wordAccounts   = "accounts"
	wordCampaigns  = "campaigns"

	wordService   = "serviceType"
	wordOperation = "operationType"
	wordAccount   = "accountId"
	wordCampaign  = "campaignId"
)

// root reads the top level of a file.
func (p *parser) root(node *yaml.Node) {
	for _, e := range p.entries(node, "") {
		path := e.path("")
		_, isKey := keyIndex[e.name]
		switch {
		case e.name == defaultLayer:
			p.layer(e.value, scope{}, path)
		case isKey && e.value.Kind != yaml.MappingNode:
			p.report(e.key, path, "is a key of a policy and stands at the top level", "indent it under default or a service")
		case p.labelled(e.value):
			p.original(e, path)
		default:
			if err := events.CheckName(e.name); err != nil {
				p.report(e.key, path, "the service "+err.Error(), "")
				continue
			}
			p.layer(e.value, scope{service: e.name}, path)
		}
	}
}

// labelled reports whether a mapping is in the original design's form for an
// operation type, an account or a campaign.
func (p *parser) labelled(node *yaml.Node) bool {
	return find(node, wordOperation) != nil || find(node, wordAccount) != nil || find(node, wordCampaign) != nil
}

// original reads a mapping in the original design's form.
func (p *parser) original(e entry, path string) {
	before := p.count
	name := func(word string, check func(string) error) string {
		node := find(e.value, word)
		if node == nil {
			return ""
		}
		if node.Kind != yaml.ScalarNode {
			p.report(node, path+"."+word, "is not a single value", "")
		} else if err := check(node.Value); err != nil {
			p.report(node, path+"."+word, err.Error(), "")
		}
		return node.Value
	}
	sc := scope{
		service: name(wordService, events.CheckName), operation: name(wordOperation, events.CheckName),
		account: name(wordAccount, checkID), campaign: name(wordCampaign, checkID),
	}
	if find(e.value, wordService) == nil {
		p.report(e.key, path, "has no serviceType", "what bears operationType, accountId or campaignId at the top level needs it")
	}
	if p.count == before {
		p.layer(e.value, sc, path)
	}
}

// checkID returns what is wrong with the id of an account or a campaign.
func checkID(id string) error {
	switch {
	case id == "":
		return errors.New("is empty")
	case len(id) > events.MaxAttribute:
		return fmt.Errorf("has %d bytes, more than the %d allowed", len(id), events.MaxAttribute)
	}
	return nil
}

// layer reads a mapping of keys that applies to sc.
func (p *parser) layer(node *yaml.Node, sc scope, path string) {
	l := p.layers[sc]
	if l == nil {
		l = newLayer(sc)
		p.layers[sc] = l
	}
	for _, e := range p.entries(node, path) {
		at := e.path(path)
		if i, ok := keyIndex[e.name]; ok {
			p.key(l, i, e, at, path)
			continue
		}
		switch {
		case e.name == wordOperations && sc.service != "" && sc.operation == "" && !sc.matches():
			p.nested(e, at, "the operation type", events.CheckName, func(name string) scope { s := sc; s.operation = name; return s })
		case e.name == wordAccounts && !sc.matches():
			p.nested(e, at, "the account", checkID, func(name string) scope { s := sc; s.account = name; return s })
		case e.name == wordCampaigns && sc.campaign == "":
			p.nested(e, at, "the campaign", checkID, func(name string) scope { s := sc; s.campaign = name; return s })
		case e.name == wordService:
			p.same(e, at, sc.service)
		case e.name == wordOperation:
			p.same(e, at, sc.operation)
		case e.name == wordAccount:
			p.same(e, at, sc.account)
		case e.name == wordCampaign:
			p.same(e, at, sc.campaign)
		default:
			p.unknown(e, at, sc)
		}
	}
}

// nested reads a mapping of names to layers.
func (p *parser) nested(e entry, path, what string, check func(string) error, under func(name string) scope) {
	for _, inner := range p.entries(e.value, path) {
		at := inner.path(path)
		if err := check(inner.name); err != nil {
			p.report(inner.key, at, what+" "+err.Error(), "")
			continue
		}
		p.layer(inner.value, under(inner.name), at)
	}
}

// same checks that what a layer says it applies to agrees with its path.
func (p *parser) same(e entry, path, want string) {
	switch {
	case e.value.Kind != yaml.ScalarNode:
		p.report(e.value, path, "is not a single value", "")
	case want == "":
		p.report(e.key, path, "has no meaning here", "")
	case e.value.Value != want:
		p.report(e.value, path, fmt.Sprintf("%q differs from %s, under which it stands", short(e.value.Value), short(want)), "")
	}
}

// key reads one key of a policy into l.
func (p *parser) key(l *layer, i int, e entry, at, path string) {
	if l.keys.has(i) {
		before := l.origins[i]
		p.report(e.key, at, fmt.Sprintf("is set for the same operations on line %d already", before.Line), "")
		return
	}
	origin := Origin{Layer: path, File: p.file, Line: e.key.Line, Column: e.key.Column}
	if p.file == BuiltinFile {
		origin.Line, origin.Column = 0, 0
	}
	var ok bool
	switch i {
	case keyTargets:
		l.values.Targets, ok = p.list(e.value, at, checkPattern)
	case keyDependsOn:
		l.values.DependsOn, ok = p.list(e.value, at, checkDependency)
	case keyRules:
		l.values.Rules, ok = p.rules(e.value, at, origin)
	default:
		if ok = p.scalar(e.value, at); ok {
			if f := keys[i].read(&l.values, e.value.Value); f != nil {
				p.report(e.value, at, f.problem, f.hint)
				ok = false
			}
		}
	}
	if ok {
		l.keys.add(i)
		l.origins[i] = origin
	}
}

// list reads a sequence of texts.
func (p *parser) list(node *yaml.Node, path string, check func(string) *issue) ([]string, bool) {
	switch node.Kind {
	case yaml.SequenceNode:
	case yaml.AliasNode:
		return nil, false // reported by plainNodes
	case yaml.ScalarNode:
		p.report(node, path, "is not a list", "write ["+oneLine(node.Value)+"]")
		return nil, false
	default:
		p.report(node, path, "is not a list", "")
		return nil, false
	}
	before := p.count
	list := make([]string, 0, len(node.Content))
	for i, item := range node.Content {
		at := fmt.Sprintf("%s[%d]", path, i)
		if !p.scalar(item, at) {
			continue
		}
		if f := check(item.Value); f != nil {
			p.report(item, at, f.problem, f.hint)
		}
		list = append(list, item.Value)
	}
	return list, p.count == before
}

// scalar reports whether node is a single value, and adds an issue if it is not.
func (p *parser) scalar(node *yaml.Node, path string) bool {
	switch {
	case node.Kind == yaml.AliasNode: // reported by plainNodes
	case node.Kind != yaml.ScalarNode:
		p.report(node, path, "is not a single value", "")
	case node.ShortTag() == "!!null" || node.Value == "":
		p.report(node, path, "has no value", "")
	default:
		return true
	}
	return false
}

// unknown reports a name that has no meaning at its path.
func (p *parser) unknown(e entry, path string, sc scope) {
	if e.key.ShortTag() == "!!merge" {
		return // reported by plainNodes
	}
	switch e.name {
	case wordOperations:
		hint := "operations stand under a service"
		if sc.operation != "" || sc.matches() {
			hint = "operations stand under a service itself"
		}
		p.report(e.key, path, "cannot stand here", hint)
		return
	case wordAccounts, wordCampaigns:
		p.report(e.key, path, "cannot stand here", "campaigns may stand under an account, and nothing else within another")
		return
	}
	p.report(e.key, path, "no such key", p.hint(e.name, sc))
}

// hint returns the hint for an unknown key.
func (p *parser) hint(name string, sc scope) string {
	if p.full() {
		return ""
	}
	if name, ok := otherNames[name]; ok {
		return didYouMean(name)
	}
	if sc.service == wordAccounts || sc.service == wordCampaigns {
		return sc.service + " of all services stand under default"
	}
	names := []string{wordOperations, wordAccounts, wordCampaigns, wordService}
	for i := range keys {
		names = append(names, keys[i].Name)
	}
	return didYouMean(spelling.Nearest(name, names))
}

// otherNames maps the names of other retry policies to ours.
var otherNames = map[string]string{
	"maxRetries": "maxAttempts, which counts the first attempt as well", "retries": "maxAttempts, which counts the first attempt as well",
	"initialDelay": "baseDelay", "initialInterval": "baseDelay", "delay": "baseDelay", "interval": "baseDelay", "minDelay": "baseDelay",
	"maxInterval": "maxDelay", "cap": "maxDelay", "factor": "multiplier", "backoffCoefficient": "multiplier",
	"strategy": "backoffStrategy", "backoff": "backoffStrategy", "jitter": "jitterType", "timeout": "attemptTimeout",
	"maxConcurrency": "maxConcurrentRetries", "subject": "target", "dependencies": "dependsOn", "classification": "rules",
}
