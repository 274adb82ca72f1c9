package pull

import (
	"container/list"
	"context"
	"sync"
)

const (
	// fewAtOnce is how many of a queue work at once, and manyAtOnce how many while it is
	// full, so that other messages wait for them, or while nothing more is pulled.
	fewAtOnce  = 16
	manyAtOnce = 256
)

// Later returns what a [Handler] returns if the rest of its work can wait: do is called
// when the message's turn in the [Queue] comes, and its error stands for the handler's.
func Later(do func(ctx context.Context) error) error { return &laterError{do} }

// laterError is work that can wait.
type laterError struct{ do func(context.Context) error }

func (*laterError) Error() string { return "the rest of the work can wait" }

// Queue is where messages wait whose work can. They do not count as in flight, and only few
// work at once, so a flood of them delays the messages behind it as little as possible. While
// as many wait as may be in flight, nothing more is pulled. Pullers that share a limit share
// the queue. It is safe for concurrent use.
type Queue struct {
	limit *Limit

	mu      sync.Mutex // guards the fields below
	waiting list.List  // of chan struct{}, closed when the turn has come
	inside  int        // those that wait or work
	working int
	hurries bool          // whether nothing comes behind them any more
	room    chan struct{} // closed when more may be pulled, nil if nobody waits for that
}

// NewQueue returns the queue of messages that were in flight within a limit.
func NewQueue(limit *Limit) *Queue { return &Queue{limit: limit} }

// enter takes a message out of the in-flight limit and waits for its turn. It reports
// false if ctx ends first. [Queue.leave] must follow a true one.
func (q *Queue) enter(ctx context.Context) bool {
	turn := make(chan struct{})
	q.mu.Lock()
	q.inside++
	place := q.waiting.PushBack(turn)
	q.admit()
	q.mu.Unlock()
	q.limit.release(1)
	select {
	case <-turn:
		return true
	case <-ctx.Done():
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	select {
	case <-turn:
		q.working--
	default:
		q.waiting.Remove(place)
	}
	q.left()
	return false
}

// leave ends the work of a message whose turn had come.
func (q *Queue) leave() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.working--
	q.left()
}

// left counts a message that is no longer inside. The caller has locked q.mu.
func (q *Queue) left() {
	q.inside--
	if q.room != nil && !q.full() {
		close(q.room)
		q.room = nil
	}
	q.admit()
}

// full reports whether as many are inside as may be. The caller has locked q.mu.
func (q *Queue) full() bool { return q.inside >= int(q.limit.limit.Load()) }

// hasNoRoom reports whether nothing more may be pulled. A nil queue always has room.
func (q *Queue) hasNoRoom() bool {
	if q == nil {
		return false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.full()
}

// hurry makes many work at once from now on, because nothing more is pulled that they could
// delay. A nil queue has nobody to hurry.
func (q *Queue) hurry() {
	if q == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.hurries = true
	q.admit()
}

// admit lets in those whose turn it is. The caller has locked q.mu.
func (q *Queue) admit() {
	atOnce := fewAtOnce
	if q.hurries || q.full() {
		atOnce = manyAtOnce
	}
	for q.working < atOnce && q.waiting.Len() > 0 {
		close(q.waiting.Remove(q.waiting.Front()).(chan struct{}))
		q.working++
	}
}

// await waits until the queue has room, or ctx ends. A nil queue always has.
func (q *Queue) await(ctx context.Context) {
	for q != nil {
		q.mu.Lock()
		if !q.full() {
			q.mu.Unlock()
			return
		}
		if q.room == nil {
			q.room = make(chan struct{})
		}
		room := q.room
		q.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return
		}
	}
}
