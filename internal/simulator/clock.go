package simulator

import (
	"container/heap"
	"context"
	"time"
)

// clock is virtual time: events ordered by time and, for equal times, by creation.
type clock struct {
	now   time.Time
	made  uint64
	queue agenda
}

type event struct {
	at   int64 // nanoseconds since start
	made uint64
	do   func()
}

// start is when every simulation begins.
var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func newClock() *clock { return &clock{now: start} }

// at schedules do for t, or for now if t is past.
func (c *clock) at(t time.Time, do func()) {
	if t.Before(c.now) {
		t = c.now
	}
	c.made++
	heap.Push(&c.queue, &event{int64(t.Sub(start)), c.made, do})
}

func (c *clock) after(d time.Duration, do func()) { c.at(c.now.Add(d), do) }

// run lets time pass until no events are left, or until end. The error is that of ctx.
func (c *clock) run(ctx context.Context, end time.Time) error {
	const look = 10_000 // events between checks of ctx
	for i := 0; len(c.queue) > 0 && c.queue[0].at <= int64(end.Sub(start)); i++ {
		if i%look == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		e := heap.Pop(&c.queue).(*event)
		c.now = start.Add(time.Duration(e.at))
		e.do()
	}
	return nil
}

// agenda is a [heap.Interface].
type agenda []*event

func (q agenda) Len() int { return len(q) }
func (q agenda) Less(i, j int) bool {
	if q[i].at != q[j].at {
		return q[i].at < q[j].at
	}
	return q[i].made < q[j].made
}
func (q agenda) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *agenda) Push(x any)   { *q = append(*q, x.(*event)) }
func (q *agenda) Pop() any {
	last := len(*q) - 1
	e := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	return e
}
