package pull

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// patient is a handler whose work on messages up to a sequence can wait, and then waits for
// release.
type patient struct {
	upTo             uint64
	release          chan struct{}
	working, handled atomic.Int64 // those whose work can wait and works, and those whose cannot
}

func (p *patient) handle(_ context.Context, m *Message) error {
	if m.Sequence() > p.upTo {
		p.handled.Add(1)
		return nil
	}
	return Later(func(context.Context) error {
		p.working.Add(1)
		<-p.release
		return nil
	})
}

// numbered returns the numbers from one to another.
func numbered(from, to uint64) (all []uint64) {
	for n := from; n <= to; n++ {
		all = append(all, n)
	}
	return all
}

func TestPuller_WorkThatCanWaitDelaysNoMessageBehindIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit, flood, others = fewAtOnce + 9, fewAtOnce + 8, 5 // more than the limit together
		p := &patient{upTo: flood, release: make(chan struct{})}
		s := newFakeSource(numbered(1, flood+others)...)
		r := run(t, s, limit, p.handle)
		synctest.Wait()
		if got := p.handled.Load(); got != others {
			t.Errorf("%d of the messages behind were handled before the work that can wait, want all %d", got, others)
		}
		if got := p.working.Load(); got != fewAtOnce {
			t.Errorf("%d messages are worked on that can wait, want %d at once", got, fewAtOnce)
		}
		close(p.release)
		synctest.Wait()
		r.drain()
		if got := len(s.was()); got != flood+others {
			t.Errorf("%d messages were settled, want all %d", got, flood+others)
		}
	})
}

func TestPuller_PullsNothingWhileAsManyWaitAsMayBeInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = fewAtOnce + 4
		p := &patient{upTo: 3 * limit, release: make(chan struct{})}
		s := newFakeSource(numbered(1, 3*limit)...)
		r := run(t, s, limit, p.handle)
		synctest.Wait()
		if got := r.Unacked(); got < limit || got > 2*limit {
			t.Errorf("%d messages are in hand, want no less than the %d that may wait, and as many in flight at most", got, limit)
		}
		if got := p.working.Load(); got != int64(r.Unacked()) {
			t.Errorf("%d of %d messages are worked on, want all: others wait for them", got, r.Unacked())
		}
		close(p.release)
		synctest.Wait()
		if got := r.Handled(); got != 3*limit {
			t.Errorf("%d messages were handled in the end, want all %d", got, 3*limit)
		}
		r.drain()
	})
}

func TestPuller_WhatWaitsIsWorkedOnAtOnceWhenItDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const waiting = 3
		p := &patient{upTo: fewAtOnce + waiting, release: make(chan struct{})}
		s := newFakeSource(numbered(1, fewAtOnce+waiting)...)
		r := run(t, s, 100, p.handle)
		synctest.Wait()
		close(r.draining)
		synctest.Wait()
		if got := p.working.Load(); got != fewAtOnce+waiting {
			t.Errorf("%d messages are worked on, want all %d", got, fewAtOnce+waiting)
		}
		close(p.release)
		<-r.done
		if got := s.was(); len(got) != fewAtOnce+waiting || slices.ContainsFunc(got, func(how string) bool { return !strings.HasSuffix(how, " acked") }) {
			t.Errorf("settled %q in the end, want all %d acknowledged", got, fewAtOnce+waiting)
		}
	})
}
