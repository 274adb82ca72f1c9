package schemas

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/health"
	"github.com/rebound-mq/rebound/scheduler"
	"github.com/rebound-mq/rebound/scheduler/gate"
)

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
	Reports ReportCounts `json:"reports"`
	// Policies are those that the instance has in force.
	Policies PolicyState `json:"policies"`
	// Coordination says with whom the breakers are shared.
	Coordination Sharing `json:"coordination"`
	// Pauses are what operators have paused.
	Pauses []events.Pause `json:"pauses,omitempty"`
	// Breakers are the worst of those that are not closed, and BreakerCounts counts all
	// that the instance knows of.
	Breakers      []breaker.Summary `json:"breakers"`
	BreakerCounts breaker.Counts    `json:"breakerCounts"`
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

// ReportCounts counts what workers report.
type ReportCounts struct {
	// Waiting are stored and not yet taken in.
	Waiting uint64 `json:"waiting"`
	// Taken and Refused count those that this instance took in and refused since
	// it was started.
	Taken   uint64 `json:"taken"`
	Refused uint64 `json:"refused"`
}

// Sharing says whether an instance shares its breakers with the others.
type Sharing struct {
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

// Coordination is the answer to rebound.coordination: how the instances are,
// as the one that answers sees them.
type Coordination struct {
	Instance string `json:"instance"`
	health.Coordination
	// Sharing says with whom the breakers are shared.
	Sharing Sharing `json:"coordination"`
}

// HealthQuery is the request of rebound.health.
type HealthQuery struct {
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
	// Held are the keys whose operations do not go on, as this instance knows it, those with
	// the most first.
	Held []HeldKey `json:"held,omitempty"`
	// Services tells of all of which something is known, by name.
	Services []health.Metrics `json:"services"`
}

// HeldKey is a key whose operations do not go on.
type HeldKey struct {
	Key string `json:"key"`
	// Held is how many operations wait: those in lanes, over all instances, and those that
	// the instance has in hand until somebody listens on their target.
	Held    int        `json:"held"`
	Cause   gate.Cause `json:"cause"`
	Because string     `json:"because"`
	Since   time.Time  `json:"since"`
	// Next is when its gate is asked again, zero if that is not known.
	Next time.Time `json:"next,omitzero"`
}

// AllHeld puts together what the instances know of the keys whose operations do not go on,
// those with the most first: an instance knows why only if it has asked for the key.
func AllHeld(instances []Health) []HeldKey {
	most := make(map[string]HeldKey)
	for _, i := range instances {
		for _, k := range i.Held {
			if known, ok := most[k.Key]; !ok || k.Held > known.Held {
				most[k.Key] = k
			}
		}
	}
	return slices.SortedFunc(maps.Values(most), func(a, b HeldKey) int {
		return cmp.Or(cmp.Compare(b.Held, a.Held), cmp.Compare(a.Key, b.Key))
	})
}
