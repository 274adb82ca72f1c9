package client

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sync/semaphore"

	"github.com/rebound-mq/rebound/scheduler/policy"
)

// key is the state that all calls of one service:operation share in this process.
type key struct {
	name   string
	meter  *meter
	budget budget
	slots  atomic.Pointer[slots] // nil is unlimited
}

// slots bounds the retries in flight.
type slots struct {
	*semaphore.Weighted
	limit int
}

// limit applies the limits of a policy. Retries in flight keep their slots.
func (k *key) limit(p *policy.Policy) {
	k.budget.limit(p.RetryBudgetPerMinute, p.RetryBudgetPerHour)
	switch s := k.slots.Load(); {
	case p.MaxConcurrentRetries <= 0:
		k.slots.Store(nil)
	case s == nil || s.limit != p.MaxConcurrentRetries:
		k.slots.Store(&slots{semaphore.NewWeighted(int64(p.MaxConcurrentRetries)), p.MaxConcurrentRetries})
	}
}

// keys are the keys and services of a client. Only the program's own calls add to them.
type keys struct {
	mu     sync.Mutex // guards the fields below
	keys   map[string]*key
	meters map[string]*meter
}

// key returns the state of a key, the same for every call.
func (c *Client) key(service, operation string) *key {
	c.keys.mu.Lock()
	defer c.keys.mu.Unlock()
	name := service + ":" + operation
	k := c.keys.keys[name]
	if k != nil {
		return k
	}
	m := c.keys.meters[service]
	if m == nil {
		m = &meter{service: service, client: c}
		c.keys.meters[service] = m
	}
	k = &key{name: name, meter: m, budget: newBudget()}
	c.keys.keys[name] = k
	return k
}

// meters returns all meters.
func (c *Client) meters() []*meter {
	c.keys.mu.Lock()
	defer c.keys.mu.Unlock()
	all := make([]*meter, 0, len(c.keys.meters))
	for _, m := range c.keys.meters {
		all = append(all, m)
	}
	return all
}
