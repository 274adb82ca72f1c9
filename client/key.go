package client

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/scheduler"
)

// key is the state that all calls of one service:operation share in this process.
type key struct {
	name               string
	service, operation string
	meter              *meter
	paused             atomic.Pointer[pausedKey]
}

// pausedKey is what a set of pauses says of a key.
type pausedKey struct {
	by     *scheduler.Pauses
	paused bool
	until  time.Time // zero for as long as the set is in force
}

// pause returns until when a set of pauses holds the key at now; a zero time is not known.
func (k *key) pause(by *scheduler.Pauses, now time.Time) (until time.Time, paused bool) {
	p := k.paused.Load()
	if p == nil || p.by != by {
		p = &pausedKey{by: by}
		if one := by.Of(k.service, k.operation, now); one != nil {
			p.until, p.paused = one.Until, true
		}
		k.paused.Store(p)
	}
	return p.until, p.paused && (p.until.IsZero() || now.Before(p.until))
}

// pausedError is the refusal of an attempt at a key that an operator has paused.
type pausedError struct{ until time.Time }

func (pausedError) Error() string { return "an operator has paused the key" }

// paused returns an error if an operator has paused the key.
func (b *bound) paused(now time.Time) error {
	set := b.client.sharing.pauses.Load()
	if set == nil {
		return nil
	}
	if until, paused := b.key.pause(set, now); paused {
		return pausedError{until}
	}
	return nil
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
	name := events.Key(service, operation)
	k := c.keys.keys[name]
	if k != nil {
		return k
	}
	m := c.keys.meters[service]
	if m == nil {
		m = &meter{service: service, client: c}
		c.keys.meters[service] = m
	}
	k = &key{name: name, service: service, operation: operation, meter: m}
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
