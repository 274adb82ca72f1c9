package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/rebound-mq/rebound/events"
)

// conflict is an issue between values of a policy; keys are the keys involved.
type conflict struct {
	keys []int
	issue
}

// check reports the conflicts in set that involve the parser's file.
func (p *parser) check(set *Set) {
	c := checker{parser: p, set: set, reported: make(map[string]bool)}
	for _, sc := range set.scopes() {
		c.layers(sc)
	}
	for _, circle := range set.circles() {
		c.circle(circle)
	}
}

// checker looks for conflicts in a set and reports each once.
type checker struct {
	*parser
	set      *Set
	reported map[string]bool // the texts of the issues
}

// layers reports the conflicts between the layers that apply to sc.
func (c *checker) layers(sc scope) {
	t := c.traced(sc)
	for _, found := range conflicts(&t.policy, sc) {
		c.conflict(t, found)
	}
	if !sc.matches() {
		return
	}
	base := c.traced(sc.place())
	for _, found := range sharedConflicts(c.set.layers[sc], &base.policy) {
		c.conflict(t, found)
	}
}

// circle reports a circle of dependencies at the first of its places that the file
// sets.
func (c *checker) circle(circle []string) {
	for _, sc := range c.set.neededBy(circle[:len(circle)-1]) {
		t := c.traced(sc)
		if _, ok := c.blame(t, []int{keyDependsOn}); ok {
			c.conflict(t, conflict{[]int{keyDependsOn}, issue{"goes in a circle: " + circleText(circle), ""}})
			return
		}
	}
}

func (c *checker) traced(sc scope) trace {
	return traced(c.set.applying(Query{Service: sc.service, Operation: sc.operation, Account: sc.account, Campaign: sc.campaign}))
}

// conflict reports a conflict in t once, if it involves the file.
func (c *checker) conflict(t trace, found conflict) {
	blamed, ok := c.blame(t, found.keys)
	if !ok {
		return
	}
	origin := t.origins[blamed]
	for _, i := range found.keys {
		if from := t.origins[i]; from.Layer != origin.Layer {
			found.problem += fmt.Sprintf(" (%s is from %s)", keys[i].Name, from)
		}
	}
	f := Issue{Line: origin.Line, Column: origin.Column, Key: origin.Layer + "." + keys[blamed].Name, Problem: found.problem, Hint: found.hint}
	if text := f.Error(); !c.reported[text] {
		c.reported[text] = true
		c.reportAt(f.Line, f.Column, f.Key, f.Problem, f.Hint)
	}
}

// blame returns the key to report an issue at: of the candidates that the parser's
// file sets, the one in the uppermost layer, and of those the last in the file. ok is
// false if the file sets none of them.
func (p *parser) blame(t trace, candidates []int) (blamed int, ok bool) {
	for _, i := range candidates {
		switch {
		case t.origins[i].File != p.file || t.origins[i].Line == 0:
		case !ok, t.ranks[i] > t.ranks[blamed], t.ranks[i] == t.ranks[blamed] && t.origins[i].Line > t.origins[blamed].Line:
			blamed, ok = i, true
		}
	}
	return blamed, ok
}

// conflicts returns the values of a policy for the operations of sc that contradict
// each other.
func conflicts(p *Policy, sc scope) (found []conflict) {
	add := func(i issue, keys ...int) { found = append(found, conflict{keys, i}) }
	if p.BaseDelay > p.MaxDelay {
		add(issue{fmt.Sprintf("baseDelay %s is longer than maxDelay %s", spanText(p.BaseDelay), spanText(p.MaxDelay)), ""},
			keyBaseDelay, keyMaxDelay)
	}
	if least := p.Delays(1, events.Critical, Signals{}).Min; p.MaxElapsedTime > 0 && p.MaxAttempts > 1 && least > p.MaxElapsedTime && p.BaseDelay <= p.MaxDelay {
		add(issue{
			fmt.Sprintf("maxElapsedTime %s is over before the first delay of at least %s", spanText(p.MaxElapsedTime), spanText(least)),
			"no operation would be tried again; write maxAttempts: 1 if that is meant",
		}, keyMaxElapsedTime, keyBaseDelay, keyJitterType)
	}
	if p.RetryBudgetPerHour > 0 && p.RetryBudgetPerMinute > p.RetryBudgetPerHour {
		add(issue{fmt.Sprintf("retryBudgetPerMinute %d is more than retryBudgetPerHour %d", p.RetryBudgetPerMinute, p.RetryBudgetPerHour), ""},
			keyRetryBudgetPerMinute, keyRetryBudgetPerHour)
	}
	if target, known := p.knownTarget(sc); known && !p.HasDefaultTarget() && !p.Allows(target) {
		add(issue{fmt.Sprintf("target %s is not among targets", short(target)), ""}, keyTarget, keyTargets)
	}
	return append(found, selfDependence(p, sc)...)
}

// knownTarget returns the policy's target if it is the same for all operations of sc.
func (p *Policy) knownTarget(sc scope) (target string, known bool) {
	open := sc.service == "" && strings.Contains(p.Target, "{service}") || sc.operation == "" && strings.Contains(p.Target, "{operation}")
	return p.TargetOf("", sc.service, sc.operation), !open
}

// selfDependence returns a conflict for each entry of dependsOn that would make
// operations of sc wait for themselves.
func selfDependence(p *Policy, sc scope) []conflict {
	if len(p.DependsOn) > 0 && sc.service == "" {
		return []conflict{{[]int{keyDependsOn}, issue{"cannot stand under default", "what every service needs would need itself"}}}
	}
	var found []conflict
	for _, needed := range p.DependsOn {
		service, operation, _ := strings.Cut(needed, ":")
		if service == sc.service && (operation == "" || sc.operation == "" || operation == sc.operation) {
			found = append(found, conflict{[]int{keyDependsOn}, issue{fmt.Sprintf("%s would need itself by %s", placeName(sc), needed), ""}})
		}
	}
	return found
}

// sharedConflicts returns a conflict for each shared key of a match that differs from
// base.
func sharedConflicts(l *layer, base *Policy) []conflict {
	var found []conflict
	for i := range keys {
		k := &keys[i]
		if !l.keys.has(i) || !k.Shared {
			continue
		}
		if i == keyRules || k.text(&l.values) != k.text(base) {
			found = append(found, conflict{[]int{i}, issue{
				"belongs to all operations of a service and operation type together and cannot differ by account or campaign",
				"set it for " + placeName(l.scope),
			}})
		}
	}
	return found
}

// placeName returns the name of a scope's service or key in dependsOn.
func placeName(sc scope) string {
	switch {
	case sc.service == "":
		return defaultLayer
	case sc.operation == "":
		return sc.service
	}
	return sc.service + ":" + sc.operation
}

// checkDependency returns what is wrong with an entry of dependsOn.
func checkDependency(s string) *issue {
	service, operation, keyed := strings.Cut(s, ":")
	err := events.CheckName(service)
	if err == nil && keyed {
		err = events.CheckName(operation)
	}
	if err != nil {
		return &issue{fmt.Sprintf("%q is no service and no service:operation: %v", short(s), err), ""}
	}
	return nil
}

// circleText describes a circle in one line of bounded length.
func circleText(circle []string) string {
	const most = 10
	if last := len(circle) - 1; last > most {
		circle = append(slices.Clone(circle[:most]), fmt.Sprintf("(%d more)", last-most), circle[last])
	}
	return strings.Join(circle, " needs ")
}

// circles returns circles of services and keys in which each needs the next; the last
// entry is the first again. A dependency on itself is no circle. It returns at most
// maxIssues, because the number grows with the cube when everything needs everything.
func (s *Set) circles() (found [][]string) {
	const onPath, done = 1, 2 // 0 means not visited
	state := make(map[string]int)
	var path []string
	var visit func(name string)
	visit = func(name string) {
		state[name] = onPath
		path = append(path, name)
		for _, needed := range s.needs(name) {
			switch {
			case needed == name:
			case state[needed] == onPath && len(found) < maxIssues:
				found = append(found, append(slices.Clone(path[slices.Index(path, needed):]), needed))
			case state[needed] == 0:
				visit(needed)
			}
		}
		path = path[:len(path)-1]
		state[name] = done
	}
	for _, sc := range s.scopes() {
		if name := placeName(sc); sc.service != "" && !sc.matches() && state[name] == 0 {
			visit(name)
		}
	}
	return found
}

// neededBy returns the scopes that set dependsOn for the services and keys of a
// circle.
func (s *Set) neededBy(names []string) (scopes []scope) {
	for _, name := range names {
		service, operation, keyed := strings.Cut(name, ":")
		scopes = append(scopes, scope{service: service, operation: operation})
		if known := s.services[service]; known != nil && !keyed {
			for _, o := range slices.Sorted(maps.Keys(known.operations)) {
				scopes = append(scopes, scope{service: service, operation: o})
			}
		}
	}
	return scopes
}

// needs returns the dependencies of a key, or of a service with all its operation
// types.
func (s *Set) needs(name string) []string {
	service, operation, keyed := strings.Cut(name, ":")
	known := s.services[service]
	switch {
	case known == nil:
		return nil
	case keyed:
		return s.at(service, operation).policy.DependsOn
	}
	all := slices.Clone(known.policy.DependsOn)
	for _, o := range known.operations {
		all = append(all, o.policy.DependsOn...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}
