package handlers

import (
	"errors"
	"fmt"
	"time"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/health"
	"github.com/rebound-mq/rebound/internal/deadletter"
	"github.com/rebound-mq/rebound/scheduler"
)

// Bounds of a request on dead letters.
const (
	defaultListLimit = 100
	maxListLimit     = 1000
	maxActLimit      = 10_000
	// statusLimit is how many breakers and gates a status tells of.
	statusLimit = 20
)

// Submitted is the answer to rebound.submit.<service>.<operation>.
type Submitted struct {
	// ID is the operation's id.
	ID      string `json:"id"`
	EventID string `json:"eventId"`
	Source  string `json:"source"`
	// Stream and Sequence say where the submission is stored.
	Stream   string `json:"stream"`
	Sequence uint64 `json:"sequence"`
	// Duplicate is whether the same submission was stored before.
	Duplicate bool `json:"duplicate,omitempty"`
}

// DeadSummary is a dead letter without its payload.
type DeadSummary struct {
	ID        string        `json:"id"`
	Service   string        `json:"service"`
	Operation string        `json:"operation"`
	Reason    events.Reason `json:"reason"`
	Detail    string        `json:"detail"`
	ErrorCode string        `json:"errorCode,omitempty"`
	Attempts  int           `json:"attempts"`
	Replay    int           `json:"replay,omitempty"`
	DiedAt    time.Time     `json:"diedAt"`
	Bytes     int           `json:"bytes"`
	Sequence  uint64        `json:"sequence"`
}

// DeadList is the answer to rebound.dead.list.
type DeadList struct {
	DeadLetters []DeadSummary `json:"deadLetters"`
	// Next continues the list as the filter's after; 0 at its end.
	Next uint64 `json:"next,omitempty"`
}

// DeadShow is the request of rebound.dead.show; the answer is an
// [events.DeadLetter].
type DeadShow struct {
	ID string `json:"id"`
}

// DeadAct is the request of rebound.dead.replay and rebound.dead.discard.
type DeadAct struct {
	deadletter.Filter
	// All must be true when the filter selects nothing in particular.
	All bool `json:"all,omitempty"`
	// DryRun counts and does nothing.
	DryRun bool `json:"dryRun,omitempty"`
}

// DeadActed is the answer to a [DeadAct].
type DeadActed struct {
	// Matched counts the dead letters that the filter selected, and Done those
	// that were acted on.
	Matched int `json:"matched"`
	Done    int `json:"done"`
	// Next continues as the filter's after; 0 when all were selected.
	Next uint64 `json:"next,omitempty"`
}

// Status is the answer to rebound.status.
type Status struct {
	Instance string    `json:"instance"`
	Version  string    `json:"version"`
	Started  time.Time `json:"started"`
	// Server is the version of the NATS server.
	Server string `json:"server"`
	// Submitted, Parked, Due, InFlight, Held and Dead count operations: taken
	// in by the stream but not by an instance, waiting for their time, due and
	// not taken, in hand of an instance, in lanes, and dead letters.
	Submitted uint64 `json:"submitted"`
	// Waiting are the services of which the most submissions wait to be taken in,
	// and Limit is how many of one may, 0 being no bound.
	Waiting  []ServiceSubmitted `json:"waiting"`
	Limit    uint64             `json:"limit"`
	Parked   uint64             `json:"parked"`
	Due      uint64             `json:"due"`
	InFlight uint64             `json:"inFlight"`
	Held     uint64             `json:"held"`
	Dead     uint64             `json:"dead"`
	// Outcomes counts the events that are kept.
	Outcomes uint64 `json:"outcomes"`
	// Reports are those of workers.
	Reports Reports `json:"reports"`
	// Policies are those that the instance has in force.
	Policies PolicyState `json:"policies"`
	// Coordination says with whom the breakers are shared.
	Coordination Coordination `json:"coordination"`
	// Breakers are the worst of those that are not closed, and BreakerCounts counts all
	// that the instance knows of.
	Breakers      []Breaker      `json:"breakers"`
	BreakerCounts breaker.Counts `json:"breakerCounts"`
	// Gates are the worst of those that are shut at the instance that answers, pace the
	// release or have operations in flight there, and GateCounts counts all of these.
	Gates      []scheduler.KeyReport `json:"gates"`
	GateCounts scheduler.GateCounts  `json:"gateCounts"`
	// LimitsShared is whether the instances share the limits of keys. When not, the
	// store is out of reach and each has an even share.
	LimitsShared bool `json:"limitsShared"`
	// RetryCoordination is how the instances are, as this one sees them.
	RetryCoordination health.Coordination `json:"retryCoordination"`
}

// ServiceSubmitted is how many submissions of a service wait to be taken in.
type ServiceSubmitted struct {
	Service   string `json:"service"`
	Submitted uint64 `json:"submitted"`
}

// CoordinationShown is the answer to rebound.coordination: how the instances are,
// as the one that answers sees them.
type CoordinationShown struct {
	Instance string `json:"instance"`
	health.Coordination
	// Sharing says with whom the breakers are shared.
	Sharing Coordination `json:"coordination"`
}

// Reports counts what workers report.
type Reports struct {
	// Waiting are stored and not yet taken in.
	Waiting uint64 `json:"waiting"`
	// Taken and Refused count those that this instance took in and refused since
	// it was started.
	Taken   uint64 `json:"taken"`
	Refused uint64 `json:"refused"`
}

// Coordination says whether an instance shares its breakers with the others.
type Coordination struct {
	// Store is where they are shared: redis or nats.
	Store string `json:"store"`
	// Shared is whether they are. When not, the store is out of reach and the
	// instance goes on alone.
	Shared bool `json:"shared"`
	// Since is when Shared became what it is.
	Since time.Time `json:"since"`
	// Problem says what is wrong with the store, empty when nothing.
	Problem string `json:"problem,omitempty"`
}

// Breaker is what is told of a circuit breaker; see [breaker.Circuit]. Its times
// are of the clock of the store.
type Breaker struct {
	ServiceKey        string        `json:"serviceKey"`
	State             breaker.State `json:"state"`
	FailureCount      int           `json:"failureCount"`
	LastFailureTime   time.Time     `json:"lastFailureTime,omitzero"`
	NextAttemptTime   time.Time     `json:"nextAttemptTime,omitzero"`
	HalfOpenAttempts  int           `json:"halfOpenAttempts"`
	HalfOpenSuccesses int           `json:"halfOpenSuccesses"`
	TotalRequests     uint64        `json:"totalRequests"`
	TotalFailures     uint64        `json:"totalFailures"`
	// AverageResponseTime is in milliseconds.
	AverageResponseTime float64       `json:"averageResponseTime"`
	Held                bool          `json:"held,omitempty"`
	Cause               breaker.Cause `json:"cause,omitempty"`
	Note                string        `json:"note,omitempty"`
	ChangedAt           time.Time     `json:"changedAt,omitzero"`
	ChangedBy           string        `json:"changedBy,omitempty"`
}

// BreakerQuery is the request of rebound.breaker.list.
type BreakerQuery struct {
	// Service is the one to tell about, all when empty.
	Service string `json:"service,omitempty"`
	// Limit is how many to list, 100 when 0, at most 1000.
	Limit int `json:"limit,omitempty"`
	// ByKey lists them in the order of their keys, those that come after After, and not
	// the worst first.
	ByKey bool   `json:"byKey,omitempty"`
	After string `json:"after,omitempty"`
}

// Check reports what is wrong with a query.
func (q BreakerQuery) Check() error {
	if q.Service != "" {
		if err := events.CheckName(q.Service); err != nil {
			return fmt.Errorf("service %w", err)
		}
	}
	switch {
	case q.Limit < 0 || q.Limit > maxListLimit:
		return fmt.Errorf("limit is %d, not between 0 and %d", q.Limit, maxListLimit)
	case q.After != "" && !q.ByKey:
		return errors.New("after is given without byKey")
	}
	return nil
}

// BreakerList is the answer to rebound.breaker.list.
type BreakerList struct {
	Coordination Coordination `json:"coordination"`
	// Breakers are those of the query, the worst first or in the order of their keys.
	Breakers []Breaker `json:"breakers"`
	// Counts are of all breakers that the instance knows of, of the service if the query
	// names one.
	Counts breaker.Counts `json:"counts"`
	// Next continues a list by keys as the query's After; empty at its end.
	Next string `json:"next,omitempty"`
}

// BreakerShow is the request of rebound.breaker.show.
type BreakerShow struct {
	// Key is service:operation.
	Key string `json:"key"`
}

// BreakerShown is the answer to rebound.breaker.show.
type BreakerShown struct {
	Breaker
	// HeldOperations counts those in the lanes of the key.
	HeldOperations uint64       `json:"heldOperations"`
	Coordination   Coordination `json:"coordination"`
}

// BreakerAct is the request of rebound.breaker.trip, rebound.breaker.hold and
// rebound.breaker.reset.
type BreakerAct struct {
	// Key is service:operation.
	Key string `json:"key"`
	// ForMs is how long a tripped breaker stays open, in milliseconds, at most 30
	// days; 0 is as long as its policy says. The others pass it over.
	ForMs float64 `json:"forMs,omitempty"`
	// Note is shown to who looks, at most 500 bytes.
	Note string `json:"note,omitempty"`
}

// BreakerActed is the answer to a [BreakerAct]: the breaker as it is now.
type BreakerActed struct {
	Breaker
	// ThisInstanceOnly says that the store was out of reach, so that the other
	// instances do not know.
	ThisInstanceOnly bool `json:"thisInstanceOnly,omitempty"`
}

// HealthRequest is the request of rebound.health.
type HealthRequest struct {
	// Service is the one to tell about, all when empty.
	Service string `json:"service,omitempty"`
}

// Health is the answer to rebound.health, which every instance gives with what
// it sees itself; [health.Merge] puts the services of several together.
type Health struct {
	Instance string `json:"instance"`
	// NotReady says why the instance cannot work, empty when it can, and Warnings what
	// else is not as it should be.
	NotReady string   `json:"notReady,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
	// Host is how busy the instance's host is, nil until it was measured.
	Host *health.Host `json:"host,omitempty"`
	// RefusedReports counts the health reports that could not be taken.
	RefusedReports uint64 `json:"refusedReports"`
	// Services tells of all of which something is known, by name.
	Services []health.Metrics `json:"services"`
}

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
	// Source is the policy file, empty for the built-in policies.
	Source string `json:"source"`
}

// PolicySource is the request of rebound.policy.check and rebound.policy.apply.
type PolicySource struct {
	// Name is what the file is called in faults, "request" when empty.
	Name   string `json:"name,omitempty"`
	Source string `json:"source"`
}

func (p PolicySource) name() string {
	if p.Name == "" {
		return "request"
	}
	return p.Name
}

// PolicyCheck is the answer to rebound.policy.check.
type PolicyCheck struct {
	Valid  bool          `json:"valid"`
	Faults []PolicyFault `json:"faults"`
}

// PolicyFault is one fault of a policy file; see [policy.Fault].
type PolicyFault struct {
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Key     string `json:"key,omitempty"`
	Problem string `json:"problem"`
	Meant   string `json:"meant,omitempty"`
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
