package schemas

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

// PolicyState says which policies an instance has in force.
type PolicyState struct {
	// Revision is the one that was applied, 0 when the instance uses those that
	// it was started with.
	Revision uint64 `json:"revision"`
	// Name is what the policies are called: a file, a revision, or built-in.
	Name string `json:"name"`
	// AppliedAt is when the revision was applied.
	AppliedAt time.Time `json:"appliedAt,omitzero"`
	// Refused tells of a later revision that is not valid.
	Refused *RefusedPolicies `json:"refused,omitempty"`
}

// RefusedPolicies are a revision that was put into the bucket and is not valid.
type RefusedPolicies struct {
	Revision uint64 `json:"revision"`
	Problem  string `json:"problem"`
}

// PolicyShow is the answer of each instance to rebound.policy.show.
type PolicyShow struct {
	Instance string `json:"instance"`
	PolicyState
	// Source is the policy file. That of the built-in policies, which every file adds to, gives
	// the reasons for their values.
	Source string `json:"source"`
}

// PolicySource is the request of rebound.policy.check and rebound.policy.apply.
type PolicySource struct {
	// Name is what the file is called in issues, "request" when empty.
	Name   string `json:"name,omitempty"`
	Source string `json:"source"`
	// AllowEmpty agrees to apply a file without policies over one that has some.
	AllowEmpty bool `json:"allowEmpty,omitempty"`
}

// FileName returns what the file is called.
func (p PolicySource) FileName() string {
	if p.Name == "" {
		return "request"
	}
	return p.Name
}

// PolicyCheck is the answer to rebound.policy.check.
type PolicyCheck struct {
	Valid  bool          `json:"valid"`
	Issues []PolicyIssue `json:"faults"`
	// Notes are what has no effect, which is no issue; see [policy.Set.Notes].
	Notes []PolicyIssue `json:"notes,omitempty"`
}

// PolicyIssue is one issue of a policy file; see [policy.Issue].
type PolicyIssue struct {
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Key     string `json:"key,omitempty"`
	Problem string `json:"problem"`
	Hint    string `json:"meant,omitempty"`
}

// PolicyApplied is the answer to rebound.policy.apply and
// rebound.policy.rollback.
type PolicyApplied struct {
	Revision uint64 `json:"revision"`
}

// PolicyRollback is the request of rebound.policy.rollback.
type PolicyRollback struct {
	Revision uint64 `json:"revision"`
}

// PolicyHistory is the answer to rebound.policy.history, the latest first.
type PolicyHistory struct {
	Revisions []PolicyRevision `json:"revisions"`
}

// PolicyRevision is one revision of the policies.
type PolicyRevision struct {
	Revision  uint64    `json:"revision"`
	AppliedAt time.Time `json:"appliedAt"`
	Bytes     int       `json:"bytes"`
	// Comment is the first line of the file when it is a comment.
	Comment string `json:"comment,omitempty"`
	// Removed is whether the revision took the policies away.
	Removed bool `json:"removed,omitempty"`
}

// PolicyQuery is the request of rebound.policy.explain; the answer is a
// [scheduler.Explanation].
type PolicyQuery struct {
	Service   string `json:"service"`
	Operation string `json:"operation"`
	Account   string `json:"accountId,omitempty"`
	Campaign  string `json:"campaignId,omitempty"`
	Priority  string `json:"priority,omitempty"`
	// Overrides are the operation's own, by the names of their attributes.
	Overrides map[string]string `json:"overrides,omitempty"`
}

// Explain answers the query from a set of policies. The error says what is wrong
// with the query.
func (q PolicyQuery) Explain(set *policy.Set) (policy.Explanation, error) {
	var issues []error
	for what, name := range map[string]string{"service": q.Service, "operation type": q.Operation} {
		if err := events.CheckName(name); err != nil {
			issues = append(issues, fmt.Errorf("%s %w", what, err))
		}
	}
	query := policy.Query{Service: q.Service, Operation: q.Operation, Account: q.Account, Campaign: q.Campaign}
	if q.Priority != "" {
		var err error
		if query.Priority, err = events.ParsePriority(q.Priority); err != nil {
			issues = append(issues, err)
		}
		query.PriorityGiven = true
	}
	for _, name := range slices.Sorted(maps.Keys(q.Overrides)) {
		switch err := policy.RefuseOverride(name); {
		case err != nil:
			issues = append(issues, err)
		case !policy.Overridable(name):
			issues = append(issues, fmt.Errorf("%q is no attribute that overrides a policy; their names are in lower case", name))
		}
	}
	overrides, err := policy.ParseOverrides(q.Overrides)
	if err := errors.Join(append(issues, err)...); err != nil {
		return policy.Explanation{}, err
	}
	return set.Explain(query, overrides), nil
}
