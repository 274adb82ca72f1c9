package ledger

import (
	"sync"

	"github.com/rebound-mq/rebound/internal/shrink"
)

// Queue holds the keys whose leases one instance must renew. Those whose operations wait
// for a lease go first. It exists before the gates, which add keys by [Queue.Want];
// [Leases] take them out. It is safe for concurrent use.
type Queue struct {
	mu      sync.Mutex           // guards the fields below
	changed *sync.Cond           // a key was queued, or the queue was closed
	wanted  []string             // keys whose operations wait for a lease, in order
	stale   []string             // keys in use whose leases must be renewed, after those
	keys    map[string]*queueKey // keys that have a lease, or had one a moment ago
	turn    int                  // counts the keys that were taken out
	closed  bool
}

// queueKey is the state of a key with a lease.
type queueKey struct {
	place place // the queue that it is in
	busy  bool  // the store is being asked
	again bool  // it was wanted meanwhile
}

// place is one of the queues of keys.
type place uint8

const (
	nowhere place = iota
	inStale
	inWanted // it may be in stale too, where it is passed over
)

// staleTurn gives every eighth turn to a stale lease while others are wanted.
const staleTurn = 8

// NewQueue returns an empty queue.
func NewQueue() *Queue {
	q := &Queue{keys: make(map[string]*queueKey)}
	q.changed = sync.NewCond(&q.mu)
	return q
}

// Want makes the lease of a key be renewed at once. It does not block.
func (q *Queue) Want(key string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	k := q.keys[key]
	if k == nil {
		k = &queueKey{}
		q.keys[key] = k
	}
	switch {
	case k.busy:
		k.again = true
	case k.place != inWanted:
		k.place = inWanted
		q.wanted = append(q.wanted, key)
		q.changed.Signal()
	}
}

// due is what to do about a key that is in no queue.
type due uint8

const (
	dueLater due = iota // nothing for now
	dueNow              // renew or return its lease
	dueNever            // forget it
)

// fill queues the keys that are due, up to most unless that is 0, and returns the keys
// that it has forgotten.
func (q *Queue) fill(most int, dueOf func(key string) due) (forgotten []string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for key, k := range q.keys {
		if k.place != nowhere || k.busy {
			continue
		}
		switch dueOf(key) {
		case dueLater:
		case dueNever:
			delete(q.keys, key)
			forgotten = append(forgotten, key)
		case dueNow:
			if most > 0 && len(q.stale) >= most {
				continue
			}
			k.place = inStale
			q.stale = append(q.stale, key)
		}
	}
	q.keys = shrink.Map(q.keys, len(forgotten))
	q.changed.Broadcast()
	return forgotten
}

// next waits for a key whose lease must be renewed; ok is false once the queue is closed.
// Wanted keys go first, except at every eighth turn.
func (q *Queue) next() (key string, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		for len(q.wanted)+len(q.stale) == 0 && !q.closed {
			q.changed.Wait()
		}
		if q.closed {
			return "", false
		}
		queue, from := &q.wanted, inWanted
		if len(q.wanted) == 0 || len(q.stale) > 0 && q.turn%staleTurn == 0 {
			queue, from = &q.stale, inStale
		}
		q.turn++
		key, *queue = (*queue)[0], (*queue)[1:]
		if len(*queue) == 0 {
			*queue = nil // it may have been long
		}
		if k := q.keys[key]; k != nil && k.place == from && !k.busy {
			k.place, k.busy = nowhere, true
			return key, true
		}
	}
}

// done ends what [Queue.next] began. A key that was wanted meanwhile is queued again.
func (q *Queue) done(key string) {
	q.mu.Lock()
	k := q.keys[key]
	again := k.again
	k.busy, k.again = false, false
	q.mu.Unlock()
	if again {
		q.Want(key)
	}
}

// close makes every call of [Queue.next] return, and returns all keys of the queue.
func (q *Queue) close() (keys []string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.changed.Broadcast()
	keys = make([]string, 0, len(q.keys))
	for key := range q.keys {
		keys = append(keys, key)
	}
	return keys
}
