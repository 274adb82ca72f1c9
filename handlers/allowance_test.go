package handlers

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// room returns how many permits can be had.
func (a *allowance) room() int {
	n := 0
	for a.permits.TryAcquire(1) {
		n++
	}
	a.permits.Release(int64(n))
	return n
}

func TestAnAllowanceIsLoweredAndRaised(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		a := newAllowance(1000)
		done := make(chan struct{})
		go func() { a.run(ctx); close(done) }()
		for _, c := range []struct{ set, want, batch int }{
			{1000, 1000, 125}, {64, 64, 8}, {500, 500, 62}, {1, 1, 1}, {0, 1, 1}, {5000, 1000, 125},
		} {
			a.set(c.set)
			synctest.Wait()
			if got := a.room(); got != c.want || a.batch() != c.batch {
				t.Errorf("set to %d there is room for %d in pulls of %d, want %d in pulls of %d", c.set, got, a.batch(), c.want, c.batch)
			}
		}
		a.set(10)
		synctest.Wait()
		cancel()
		<-done
		if got := a.room(); got != 1000 {
			t.Errorf("at the end there is room for %d, want all 1000", got)
		}
	})
}

func TestALowerAllowanceTakesNothingAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		a := newAllowance(1000)
		if !a.permits.TryAcquire(1000) {
			t.Fatal("a fresh allowance is not all there")
		}
		go a.run(ctx)
		a.set(100)
		time.Sleep(5 * time.Second) // of the bubble's clock: it waits in vain
		a.permits.Release(950)      // of the thousand in hand fifty are left
		time.Sleep(withholdWait)
		synctest.Wait()
		if got := a.room(); got != 50 {
			t.Errorf("with 50 in hand of 100 that may be, there is room for %d, want 50", got)
		}
		// It gives way at once when it is raised while it waits.
		if !a.permits.TryAcquire(50) {
			t.Fatal("the rest cannot be had")
		}
		a.set(20)
		time.Sleep(10 * withholdWait)
		a.set(1000)
		time.Sleep(withholdWait)
		synctest.Wait()
		if got := a.room(); got != 900 {
			t.Errorf("raised again with 100 in hand, there is room for %d, want 900", got)
		}
	})
}
