package scheduler

import (
	"strings"

	"github.com/rebound-mq/rebound/events"
)

// Set is an immutable set of policies, resolved by layers: the default, then the
// service, then the service's operation type. It is safe for concurrent use.
type Set struct {
	fallback Policy
	services map[string]*servicePolicies
}

// servicePolicies are the resolved policies of one service.
type servicePolicies struct {
	service    Policy
	operations map[string]*Policy
}

func newSet() *Set {
	return &Set{fallback: fallback(), services: make(map[string]*servicePolicies)}
}

// Query names the operation that a policy is wanted for.
type Query struct {
	Service, Operation string
	Account, Campaign  string
	Priority           events.Priority
}

// Resolve returns the policy for q, which must not be changed.
func (s *Set) Resolve(q Query) *Policy {
	service, ok := s.services[q.Service]
	if !ok {
		return &s.fallback
	}
	if p, ok := service.operations[q.Operation]; ok {
		return p
	}
	return &service.service
}

// TargetOf returns the subject to which an operation goes: the one that it asks
// for, else the policy's.
func (p *Policy) TargetOf(asked, service, operation string) string {
	if asked != "" {
		return asked
	}
	return strings.NewReplacer("{service}", service, "{operation}", operation).Replace(p.Target)
}

// Allows reports whether subject is among the targets that the policy allows.
func (p *Policy) Allows(subject string) bool {
	if len(p.Targets) == 0 {
		return true
	}
	tokens := strings.Split(subject, ".")
	for _, pattern := range p.Targets {
		if matchesPattern(strings.Split(pattern, "."), tokens) {
			return true
		}
	}
	return false
}

// matchesPattern matches tokens of a subject against those of a NATS pattern.
func matchesPattern(pattern, tokens []string) bool {
	for i, p := range pattern {
		switch {
		case p == ">":
			return len(tokens) > i
		case i >= len(tokens), p != "*" && p != tokens[i]:
			return false
		}
	}
	return len(pattern) == len(tokens)
}
