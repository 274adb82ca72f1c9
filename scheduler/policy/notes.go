package policy

// Notes returns what a policy file says that has no effect. Nothing of it is an issue: the file
// can be put in force.
func (s *Set) Notes() []Issue {
	var notes []Issue
	for _, sc := range s.scopes() {
		l := s.layers[sc]
		origin := l.origins[keyEnableResourceAwareRetry]
		if origin.File == BuiltinFile || !l.keys.has(keyEnableResourceAwareRetry) || !l.values.EnableResourceAwareRetry {
			continue
		}
		p := s.Resolve(Query{Service: sc.service, Operation: sc.operation, Account: sc.account, Campaign: sc.campaign})
		if p.Adapts() {
			continue
		}
		notes = append(notes, Issue{
			File: origin.File, Line: origin.Line, Column: origin.Column,
			Key:     origin.Layer + "." + keys[keyEnableResourceAwareRetry].Name,
			Problem: "has no effect, because only adaptive delays are lengthened",
			Hint:    "set enableAdaptiveBackoff: true or backoffStrategy: adaptive as well",
		})
	}
	return notes
}
