package scheduler

import (
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/rebound-mq/rebound/events"
)

// maxDuration bounds every duration of a policy.
const maxDuration = 365 * 24 * time.Hour

// keys reads the text of each key of a policy file into a policy.
var keys = map[string]func(p *Policy, text string) error{
	"maxAttempts":                func(p *Policy, s string) error { return whole(&p.MaxAttempts, s, 1) },
	"baseDelay":                  func(p *Policy, s string) error { return span(&p.BaseDelay, s) },
	"maxDelay":                   func(p *Policy, s string) error { return span(&p.MaxDelay, s) },
	"multiplier":                 func(p *Policy, s string) error { return number(&p.Multiplier, s, 1, 100) },
	"backoffStrategy":            func(p *Policy, s string) error { return p.BackoffStrategy.UnmarshalText([]byte(s)) },
	"jitterType":                 func(p *Policy, s string) error { return p.JitterType.UnmarshalText([]byte(s)) },
	"attemptTimeout":             func(p *Policy, s string) error { return positive(&p.AttemptTimeout, s) },
	"maxElapsedTime":             func(p *Policy, s string) error { return span(&p.MaxElapsedTime, s) },
	"enableAdaptiveBackoff":      func(p *Policy, s string) error { return truth(&p.EnableAdaptiveBackoff, s) },
	"successRateThreshold":       func(p *Policy, s string) error { return number(&p.SuccessRateThreshold, s, 0, 1) },
	"adaptationFactor":           func(p *Policy, s string) error { return number(&p.AdaptationFactor, s, 0, 10) },
	"learningWindow":             func(p *Policy, s string) error { return whole(&p.LearningWindow, s, 1) },
	"enableCircuitBreaker":       func(p *Policy, s string) error { return truth(&p.EnableCircuitBreaker, s) },
	"circuitBreakerThreshold":    func(p *Policy, s string) error { return whole(&p.CircuitBreakerThreshold, s, 1) },
	"circuitBreakerTimeout":      func(p *Policy, s string) error { return positive(&p.CircuitBreakerTimeout, s) },
	"circuitBreakerFailureRate":  func(p *Policy, s string) error { return number(&p.CircuitBreakerFailureRate, s, 0, 1) },
	"circuitBreakerWindow":       func(p *Policy, s string) error { return positive(&p.CircuitBreakerWindow, s) },
	"circuitBreakerMinimumCalls": func(p *Policy, s string) error { return whole(&p.CircuitBreakerMinimumCalls, s, 1) },
	"halfOpenMaxRequests":        func(p *Policy, s string) error { return whole(&p.HalfOpenMaxRequests, s, 1) },
	"halfOpenSuccesses":          func(p *Policy, s string) error { return whole(&p.HalfOpenSuccesses, s, 1) },
	"enableResourceAwareRetry":   func(p *Policy, s string) error { return truth(&p.EnableResourceAwareRetry, s) },
	"maxConcurrentRetries":       func(p *Policy, s string) error { return whole(&p.MaxConcurrentRetries, s, 0) },
	"retryBudgetPerMinute":       func(p *Policy, s string) error { return whole(&p.RetryBudgetPerMinute, s, 0) },
	"retryBudgetPerHour":         func(p *Policy, s string) error { return whole(&p.RetryBudgetPerHour, s, 0) },
	"respectGlobalBackpressure":  func(p *Policy, s string) error { return truth(&p.RespectGlobalBackpressure, s) },
	"priority": func(p *Policy, s string) (err error) {
		p.Priority, err = events.ParsePriority(s)
		return err
	},
	"target": func(p *Policy, s string) error {
		p.Target = s
		return events.Subjects{}.CheckTarget(p.TargetOf("", "service", "operation"))
	},
}

// Parse reads a policy file on top of the built-in policies. At its top level
// stand the names of services and default; a service may hold operations, a
// mapping of operation types to keys. Every fault is reported, each a
// [*PolicyFault]; [Faults] takes them apart.
func Parse(name string, src []byte) (*Set, error) { return parse(Builtin(), name, src) }

// LoadFile reads the policy file at path; see [Parse].
func LoadFile(path string) (*Set, error) {
	src, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the policy file: %w", err)
	}
	return Parse(path, src)
}

// parser gathers the faults of one file.
type parser struct {
	file   string
	faults []error
}

// layer is a mapping of keys that was checked for its form.
type layer struct {
	node *yaml.Node
	path string
}

// parse lays a file over below, which it does not change.
func parse(below *Set, name string, src []byte) (*Set, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(src, &doc); err != nil {
		return nil, &PolicyFault{File: name, Problem: "is not valid YAML: " + strings.Join(strings.Fields(err.Error()), " ")}
	}
	if len(doc.Content) == 0 {
		return below, nil
	}
	p := &parser{file: name}
	layers := p.mapping(doc.Content[0], "")
	set := newSet()
	set.fallback = below.fallback
	if l, ok := layers["default"]; ok {
		p.fill(&set.fallback, layer{l, "default"}, nil)
		// A service that the file names gets the file's default under it; one that
		// only the built-in policies name keeps what these say.
	}
	for service, policies := range below.services {
		set.services[service] = policies
	}
	for service, node := range layers {
		if service == "default" {
			continue
		}
		if err := events.CheckName(service); err != nil {
			p.fault(node, service, "the service "+err.Error(), "")
			continue
		}
		built := &servicePolicies{service: set.fallback, operations: make(map[string]*Policy)}
		if known, ok := below.services[service]; ok {
			built.service = known.service
		}
		var operations *yaml.Node
		p.fill(&built.service, layer{node, service}, func(key string, value *yaml.Node) bool {
			switch key {
			case "operations":
				operations = value
			case "serviceType":
				if value.Value != service {
					p.fault(value, service+".serviceType", fmt.Sprintf("%q differs from the name it stands under", value.Value), "")
				}
			default:
				return false
			}
			return true
		})
		if operations != nil {
			for operation, node := range p.mapping(operations, service+".operations") {
				if err := events.CheckName(operation); err != nil {
					p.fault(node, service+".operations", "the operation type "+err.Error(), "")
					continue
				}
				policy := built.service
				p.fill(&policy, layer{node, service + ".operations." + operation}, nil)
				built.operations[operation] = &policy
			}
		}
		set.services[service] = built
	}
	if len(p.faults) > 0 {
		slices.SortStableFunc(p.faults, func(a, b error) int { return Faults(a)[0].Line - Faults(b)[0].Line })
		return nil, errors.Join(p.faults...)
	}
	return set, nil
}

// mapping returns the values of a mapping by their keys.
func (p *parser) mapping(node *yaml.Node, path string) map[string]*yaml.Node {
	if node.Kind != yaml.MappingNode {
		p.fault(node, path, "is not a mapping of keys to values", "")
		return nil
	}
	out := make(map[string]*yaml.Node, len(node.Content)/2)
	for i := 0; i+1 < len(node.Content); i += 2 {
		key := node.Content[i].Value
		if _, ok := out[key]; ok {
			p.fault(node.Content[i], join(path, key), "stands there twice", "")
			continue
		}
		out[key] = node.Content[i+1]
	}
	return out
}

// fill reads the keys of a layer into a policy. other takes keys that are none
// of a policy's own.
func (p *parser) fill(policy *Policy, l layer, other func(key string, value *yaml.Node) bool) {
	for key, value := range p.mapping(l.node, l.path) {
		path := join(l.path, key)
		set, ok := keys[key]
		switch {
		case ok && value.Kind == yaml.ScalarNode:
			if err := set(policy, value.Value); err != nil {
				p.fault(value, path, err.Error(), "")
			}
		case ok:
			p.fault(value, path, "is not a single value", "")
		case key == "targets":
			policy.Targets = p.list(value, path)
		case key == "dependsOn":
			policy.DependsOn = p.list(value, path)
		case key == "rules":
			policy.Rules = p.rules(value, path)
		case other != nil && other(key, value):
		default:
			names := []string{"targets", "dependsOn", "rules", "operations"}
			for name := range keys {
				names = append(names, name)
			}
			slices.Sort(names)
			meant := ""
			if n := nearest(key, names); n != "" {
				meant = "did you mean " + n + "?"
			}
			p.fault(value, path, "no such key", meant)
		}
	}
	if policy.BaseDelay > policy.MaxDelay {
		p.fault(l.node, l.path, fmt.Sprintf("baseDelay %s is longer than maxDelay %s", policy.BaseDelay, policy.MaxDelay), "")
	}
}

// list reads a sequence of texts.
func (p *parser) list(node *yaml.Node, path string) []string {
	var out []string
	if err := node.Decode(&out); err != nil {
		p.fault(node, path, "is not a list of texts", "")
	}
	return out
}

// rules reads classification rules.
func (p *parser) rules(node *yaml.Node, path string) []Rule {
	if node.Kind != yaml.SequenceNode {
		p.fault(node, path, "is not a list of rules", "")
		return nil
	}
	rules := make([]Rule, 0, len(node.Content))
	for i, item := range node.Content {
		at := fmt.Sprintf("%s[%d]", path, i)
		r := Rule{Name: fmt.Sprintf("rule %d", i+1)}
		for key, value := range p.mapping(item, at) {
			switch key {
			case "name":
				r.Name = value.Value
			case "service":
				r.Service = value.Value
			case "codes":
				r.Codes = p.list(value, at+".codes")
			case "message":
				r.Message = value.Value
			case "class":
				switch value.Value {
				case "retryable":
				case "not_retryable":
					r.Class = NotRetryable
				default:
					p.fault(value, at+".class", fmt.Sprintf("%q is not retryable or not_retryable", value.Value), "")
				}
			case "limit":
				if err := whole(&r.Limit, value.Value, 0); err != nil {
					p.fault(value, at+".limit", err.Error(), "")
				}
			default:
				p.fault(value, at+"."+key, "no such key", "a rule has name, service, codes, message, class and limit")
			}
		}
		if len(r.Codes) == 0 && r.Message == "" {
			p.fault(item, at, "states neither codes nor message", "")
		}
		r.prepare()
		rules = append(rules, r)
	}
	return rules
}

func (p *parser) fault(node *yaml.Node, key, problem, meant string) {
	p.faults = append(p.faults, &PolicyFault{File: p.file, Line: node.Line, Column: node.Column, Key: key, Problem: problem, Meant: meant})
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func whole(to *int, s string, least int) error {
	n, err := strconv.Atoi(s)
	if err != nil || n < least || n > math.MaxInt32 {
		return fmt.Errorf("%q is no whole number of at least %d", short(s), least)
	}
	*to = n
	return nil
}

func number(to *float64, s string, least, most float64) error {
	n, err := strconv.ParseFloat(s, 64)
	if err != nil || !(n >= least && n <= most) {
		return fmt.Errorf("%q is no number from %v to %v", short(s), least, most)
	}
	*to = n
	return nil
}

func truth(to *bool, s string) error {
	switch s {
	case "true":
		*to = true
	case "false":
		*to = false
	default:
		return fmt.Errorf("%q is neither true nor false", short(s))
	}
	return nil
}

// span reads a Go duration, or a plain number of milliseconds as the original
// design writes it.
func span(to *time.Duration, s string) error {
	d, err := time.ParseDuration(s)
	if ms, numeric := strconv.ParseFloat(s, 64); numeric == nil && ms <= float64(maxDuration/time.Millisecond) {
		d, err = time.Duration(ms*float64(time.Millisecond)), nil
	}
	if err != nil || d < 0 || d > maxDuration {
		return fmt.Errorf("%q is no duration from 0 to a year, such as 1500, 1.5s or 2m", short(s))
	}
	*to = d
	return nil
}

func positive(to *time.Duration, s string) error {
	var d time.Duration
	if err := span(&d, s); err != nil {
		return err
	}
	if d == 0 {
		return errors.New("must be longer than 0")
	}
	*to = d
	return nil
}

// short clips a value for an error.
func short(s string) string {
	if len(s) > 40 {
		return s[:40] + "…"
	}
	return s
}
