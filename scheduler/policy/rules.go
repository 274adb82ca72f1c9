package policy

import (
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/spelling"
)

// Rule classifies the failures that meet all its conditions. It has at least one of
// Codes and Message.
type Rule struct {
	// Name identifies the rule in decisions and events.
	Name string
	// Service restricts the rule to one service. Empty means any.
	Service string
	// Codes are the failure codes that match, regardless of letter case,
	// underscores, hyphens and spaces. Empty means any.
	Codes []string
	// Message is a text that the failure's message must contain, regardless of
	// letter case; a * matches any text. Empty means any. Only the first
	// [events.MaxError] bytes of a message are read.
	Message string
	// Class is what the rule decides.
	Class Class
	// Limit is how often the rule may decide [Retryable] for one operation; after
	// that it decides [NotRetryable]. 0 means no limit.
	Limit int

	origin  Origin
	codes   []string // Codes, normalised
	message []string // the pieces of Message between its stars, lower case
}

// NewRule prepares r for a [Policy] that is built by hand. A rule that did not go
// through it matches nothing; [Parse] calls it for the rules of a file.
func NewRule(r Rule) Rule {
	r.codes, r.message = nil, nil
	for _, c := range r.Codes {
		r.codes = append(r.codes, normalCode(c))
	}
	for piece := range strings.SplitSeq(lowerASCII(r.Message), "*") {
		if piece != "" {
			r.message = append(r.message, piece)
		}
	}
	return r
}

// matches reports whether a failure meets all conditions of the rule. code is in
// normal form.
func (r *Rule) matches(service string, code []byte, message string) bool {
	switch {
	case r.Service != "" && r.Service != service:
		return false
	case len(r.codes) == 0 && len(r.message) == 0:
		return false
	case len(r.codes) > 0 && !r.hasCode(code):
		return false
	}
	return len(r.message) == 0 || containsInOrder(message, r.message)
}

func (r *Rule) hasCode(code []byte) bool {
	for _, c := range r.codes {
		if string(code) == c {
			return true
		}
	}
	return false
}

// String returns the rule in one line, as policy show prints it.
func (r Rule) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", r.Name, r.Class)
	switch {
	case r.Limit == 1:
		b.WriteString(" once")
	case r.Limit > 1:
		fmt.Fprintf(&b, " %d times", r.Limit)
	}
	if r.Service != "" {
		fmt.Fprintf(&b, " for %s", r.Service)
	}
	if len(r.Codes) > 0 {
		fmt.Fprintf(&b, " on %s", strings.Join(r.Codes, ", "))
	}
	if r.Message != "" {
		fmt.Fprintf(&b, " with message %q", r.Message)
	}
	return b.String()
}

// Bounds of the rules of one layer, which bound the time that classification
// takes.
const (
	maxRules    = 50
	maxCodes    = 50
	maxRuleName = 128 // bytes; the name travels in events
	maxPattern  = 256 // bytes
)

// ruleWords are the keys of a rule.
var ruleWords = []string{"name", "service", "codes", "message", "class", "limit"}

// rules reads a list of classification rules.
func (p *parser) rules(node *yaml.Node, path string, origin Origin) ([]Rule, bool) {
	switch {
	case node.Kind == yaml.AliasNode:
		return nil, false // reported by plainNodes
	case node.Kind != yaml.SequenceNode:
		p.report(node, path, "is not a list of rules", "")
		return nil, false
	case len(node.Content) > maxRules:
		p.report(node, path, fmt.Sprintf("has %d rules, more than the %d allowed", len(node.Content), maxRules), "")
		return nil, false
	}
	before := p.count
	rules := make([]Rule, 0, len(node.Content))
	for i, item := range node.Content {
		r := p.rule(item, fmt.Sprintf("%s[%d]", path, i))
		r.origin = origin
		if origin.Line > 0 {
			r.origin.Line, r.origin.Column = item.Line, item.Column
		}
		for j := range rules {
			if rules[j].Name == r.Name && (rules[j].Class != r.Class || rules[j].Limit != r.Limit) {
				p.report(item, fmt.Sprintf("%s[%d]", path, i), fmt.Sprintf("bears the name %q of a rule with another class or limit", r.Name), "")
				break
			}
		}
		rules = append(rules, r)
	}
	return rules, p.count == before
}

// rule reads one rule. A rule without a name is named after its path.
func (p *parser) rule(node *yaml.Node, path string) Rule {
	r := Rule{Name: path}
	stated := map[string]bool{}
	for _, e := range p.entries(node, path) {
		at := e.path(path)
		stated[e.name] = true
		if e.name == "codes" {
			r.Codes = p.codes(e.value, at)
			continue
		}
		if f := p.ruleKey(&r, e, at); f != nil {
			p.report(e.value, at, f.problem, f.hint)
		}
	}
	if node.Kind == yaml.MappingNode {
		if !stated["codes"] && !stated["message"] {
			p.report(node, path, "states neither codes nor message", "")
		}
		if !stated["class"] {
			p.report(node, path, "has no class", "write class: retryable or class: not_retryable")
		}
		if r.Class == NotRetryable && r.Limit > 0 {
			p.report(node, path, "limits what is not retryable", "a limit bounds how often a rule may decide retryable")
		}
	}
	return NewRule(r)
}

// ruleKey reads a key of a rule that takes a single value.
func (p *parser) ruleKey(r *Rule, e entry, path string) *issue {
	read := ruleKeys[e.name]
	switch {
	case read == nil:
		return &issue{"no such key", didYouMean(spelling.Nearest(e.name, ruleWords))}
	case !p.scalar(e.value, path):
		return nil
	}
	return read(r, e.value.Value)
}

// ruleKeys read the keys of a rule that take a single value.
var ruleKeys = map[string]func(r *Rule, s string) *issue{
	"name":    readRuleName,
	"service": readRuleService,
	"message": readRuleMessage,
	"class":   readRuleClass,
	"limit":   readRuleLimit,
}

func readRuleName(r *Rule, s string) *issue {
	if len(s) > maxRuleName || strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		return &issue{fmt.Sprintf("%q is no line of at most %d bytes", short(s), maxRuleName), ""}
	}
	r.Name = s
	return nil
}

func readRuleService(r *Rule, s string) *issue {
	if err := events.CheckName(s); err != nil {
		return &issue{"the service " + err.Error(), ""}
	}
	r.Service = s
	return nil
}

func readRuleMessage(r *Rule, s string) *issue {
	if len(s) > maxPattern {
		return &issue{fmt.Sprintf("has %d bytes, more than the %d allowed", len(s), maxPattern), ""}
	}
	if strings.Trim(s, "*") == "" {
		return &issue{fmt.Sprintf("%q matches every message", s), "leave it out"}
	}
	r.Message = s
	return nil
}

func readRuleClass(r *Rule, s string) *issue {
	class, err := ParseClass(s)
	if err != nil {
		return &issue{fmt.Sprintf("%q is not %s", short(s), oneOf(classWords[:])), didYouMean(spelling.Nearest(s, classWords[:]))}
	}
	r.Class = class
	return nil
}

// readRuleLimit reads the limit of a rule: a number, or once.
func readRuleLimit(r *Rule, s string) *issue {
	if s == "once" {
		r.Limit = 1
		return nil
	}
	n, wrong := readWhole(s, 0, maxCount)
	if wrong != nil {
		wrong.problem += ", nor once"
		return wrong
	}
	r.Limit = n
	return nil
}

// codes reads the codes of a rule.
func (p *parser) codes(node *yaml.Node, path string) []string {
	codes, ok := p.list(node, path, func(code string) *issue {
		switch {
		case len(code) > maxCode:
			return &issue{fmt.Sprintf("%q has %d bytes, more than the %d allowed", short(code), len(code), maxCode), ""}
		case normalCode(code) == "":
			return &issue{fmt.Sprintf("%q is no code", code), ""}
		}
		return nil
	})
	switch {
	case !ok:
	case len(codes) == 0:
		p.report(node, path, "is empty", "leave it out to match any code")
	case len(codes) > maxCodes:
		p.report(node, path, "has "+strconv.Itoa(len(codes))+" codes, more than the "+strconv.Itoa(maxCodes)+" allowed", "")
	}
	return codes
}
