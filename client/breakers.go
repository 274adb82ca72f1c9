package client

import (
	"context"

	"github.com/rebound-mq/rebound/breaker"
)

// Breakers returns the state of every breaker, by key (the original design's
// getCircuitBreakerStates): those of this process, or of all that share them when
// [Config.Breakers] has a store. When the store cannot be read it returns the
// states as this process knows them and the error.
func (c *Client) Breakers(ctx context.Context) ([]breaker.Circuit, error) {
	return c.breakers.Circuits(ctx)
}
