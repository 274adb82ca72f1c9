package schemas

import (
	"fmt"

	"github.com/rebound-mq/rebound/events"
)

// KeyQuery is the request of rebound.key.find.
type KeyQuery struct {
	// Name is a key, service:operation, or a service. Empty asks for Prefix only.
	Name string `json:"name,omitempty"`
	// Prefix is how the names to list begin, and Limit how many to list, none when 0, at most
	// 1000.
	Prefix string `json:"prefix,omitempty"`
	Limit  int    `json:"limit,omitempty"`
}

// Check reports what is wrong with a query.
func (q KeyQuery) Check() error {
	if q.Limit < 0 || q.Limit > MaxListLimit {
		return fmt.Errorf("limit is %d, not between 0 and %d", q.Limit, MaxListLimit)
	}
	if q.Name == "" {
		return nil
	}
	p, err := events.ParsePattern(q.Name)
	if err != nil {
		return err
	}
	if _, _, ok := p.Literal(); !ok {
		return fmt.Errorf("name %q has wildcards", q.Name)
	}
	return nil
}

// KeyFound is the answer to rebound.key.find.
type KeyFound struct {
	// Known is whether the key or the service was ever seen.
	Known bool `json:"known"`
	// Nearest are known names that it is probably a misspelling of, the most similar first.
	Nearest []string `json:"nearest,omitempty"`
	// Names are the known services and keys that begin with the prefix, sorted.
	Names []string `json:"names,omitempty"`
}
