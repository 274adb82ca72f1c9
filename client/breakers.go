package client

import (
	"context"

	"github.com/rebound-mq/rebound/breaker"
)

// Breakers returns the state of every breaker, sorted by key (the original design's
// getCircuitBreakerStates): those of this process, or of all that share them when
// [Config.Breakers] has a store. If the store cannot be read, it returns the states known to this
// process together with the error.
func (c *Client) Breakers(ctx context.Context) ([]breaker.Circuit, error) {
	return c.breakers.Circuits(ctx)
}
