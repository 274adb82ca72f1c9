package policy

import (
	"fmt"
	"strings"

	"github.com/rebound-mq/rebound/events"
)

// defaultTarget is the built-in target, which a file that only names targets does
// not mean.
const defaultTarget = "{service}.{operation}"

// HasDefaultTarget reports whether p names no target of its own.
func (p *Policy) HasDefaultTarget() bool { return p.Target == defaultTarget }

// TargetOf returns the subject to which an operation goes: the one that it asks
// for, else the policy's.
func (p *Policy) TargetOf(asked, service, operation string) string {
	if asked != "" {
		return asked
	}
	if !strings.Contains(p.Target, "{") {
		return p.Target
	}
	return strings.NewReplacer("{service}", service, "{operation}", operation).Replace(p.Target)
}

// Allows reports whether subject is among the targets that the policy allows.
func (p *Policy) Allows(subject string) bool {
	return len(p.Targets) == 0 || Matches(p.Targets, subject)
}

// Matches reports whether subject, which has no wildcard, matches one of the NATS
// subject patterns.
func Matches(patterns []string, subject string) bool {
	tokens := strings.Split(subject, ".")
	for _, pattern := range patterns {
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

// readTarget reads the key target.
func readTarget(p *Policy, s string) *flaw {
	filled := strings.NewReplacer("{service}", "service", "{operation}", "operation").Replace(s)
	if strings.ContainsAny(filled, "{}") {
		return &flaw{fmt.Sprintf("%q has a placeholder that is neither {service} nor {operation}", short(s)), ""}
	}
	if err := (events.Subjects{}).CheckTarget(filled); err != nil {
		return &flaw{err.Error(), ""}
	}
	p.Target = s
	return nil
}

// checkPattern returns what is wrong with a subject pattern of targets.
func checkPattern(pattern string) *flaw {
	tokens := strings.Split(pattern, ".")
	for i, token := range tokens {
		switch {
		case token == "":
			return &flaw{fmt.Sprintf("%q has an empty token", short(pattern)), ""}
		case token == ">" && i < len(tokens)-1:
			return &flaw{fmt.Sprintf("%q has > before its end", short(pattern)), "* stands for one token, > for all that follow"}
		case token != "*" && token != ">" && strings.ContainsAny(token, "*>"):
			return &flaw{fmt.Sprintf("%q has a wildcard within a token", short(pattern)), "* and > stand for whole tokens"}
		case token == "*" || token == ">":
			// work makes a subject of Rebound's own one of those that may be targets.
			tokens[i] = "work"
		}
	}
	if err := (events.Subjects{}).CheckTarget(strings.Join(tokens, ".")); err != nil {
		return &flaw{fmt.Sprintf("%q can match no target: %v", short(pattern), err), ""}
	}
	return nil
}
