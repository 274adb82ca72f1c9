package client

import (
	"context"

	"github.com/rebound-mq/rebound/breaker"
)

// Breakers returns the state of every breaker, sorted by key (the original design's
// getCircuitBreakerStates): those of the keys that [Execute] has used, as they are shared with the
// service, or of all that share them when [Config.Breakers] or [Config.Stores] is set. If the store
// cannot be read, it returns the states known to this process together with the error.
func (c *Client) Breakers(ctx context.Context) ([]breaker.Circuit, error) {
	return c.sharing.group.Circuits(ctx)
}
