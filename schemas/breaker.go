package schemas

import (
	"errors"
	"fmt"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
)

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
	case q.Limit < 0 || q.Limit > MaxListLimit:
		return fmt.Errorf("limit is %d, not between 0 and %d", q.Limit, MaxListLimit)
	case q.After != "" && !q.ByKey:
		return errors.New("after is given without byKey")
	}
	return nil
}

// BreakerList is the answer to rebound.breaker.list.
type BreakerList struct {
	Coordination Sharing `json:"coordination"`
	// Breakers are those of the query, the worst first or in the order of their keys.
	Breakers []breaker.Summary `json:"breakers"`
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
	breaker.Summary
	// HeldOperations counts those in the lanes of the key.
	HeldOperations uint64  `json:"heldOperations"`
	Coordination   Sharing `json:"coordination"`
}

// BreakerAct is the request of rebound.breaker.trip, rebound.breaker.hold and
// rebound.breaker.reset.
type BreakerAct struct {
	// Key is service:operation.
	Key string `json:"key"`
	// ForMs is how long a tripped breaker stays open, in milliseconds, at most 30
	// days; 0 is as long as its policy says. The others pass it over.
	ForMs float64 `json:"forMs,omitempty"`
	// By and Note are shown to who looks: the operator's name, at most 128 bytes, and the
	// reason, at most 500.
	By   string `json:"by,omitempty"`
	Note string `json:"note,omitempty"`
}

// BreakerActed is the answer to a [BreakerAct]: the breaker as it is now.
type BreakerActed struct {
	breaker.Summary
	// ThisInstanceOnly says that the store was out of reach, so that the other
	// instances do not know.
	ThisInstanceOnly bool `json:"thisInstanceOnly,omitempty"`
}

// Check reports what is wrong with a request, its key apart.
func (a BreakerAct) Check() error {
	switch {
	case len(a.By) > breaker.MaxOperator:
		return fmt.Errorf("the operator's name has %d bytes, more than the %d allowed", len(a.By), breaker.MaxOperator)
	case len(a.Note) > breaker.MaxNote:
		return fmt.Errorf("the note has %d bytes, more than the %d allowed", len(a.Note), breaker.MaxNote)
	case a.ForMs < 0 || a.ForMs > events.InMilliseconds(breaker.LongestTrip):
		return fmt.Errorf("forMs is %v; a breaker can be tripped for 0 to %v ms", a.ForMs, events.InMilliseconds(breaker.LongestTrip))
	}
	return nil
}
