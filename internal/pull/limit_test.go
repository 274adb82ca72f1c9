package pull

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// free returns how many permits are free.
func (l *Limit) free() int {
	n := 0
	for l.permits.TryAcquire(1) {
		n++
	}
	l.release(n)
	return n
}

func TestLimit_IsLoweredAndRaised(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		l := NewLimit(1000, 8)
		done := make(chan struct{})
		go func() { l.Run(ctx); close(done) }()
		for _, c := range []struct{ set, share, want, batch, shared int }{
			{1000, 1000, 1000, 125, 1000},
			{64, 1000, 64, 8, 1000},
			{500, 500, 500, 62, 500},
			{1, 0, 1, 1, 1},
			{0, 0, 1, 1, 1},
			{5000, 5000, 1000, 125, 1000},
		} {
			l.Set(c.set, c.share)
			synctest.Wait()
			if got := l.free(); got != c.want || l.batch() != c.batch || l.Shared() != c.shared {
				t.Errorf("set to %d, shared as %d, %d permits are free in pulls of %d and keys share %d; want %d, %d and %d",
					c.set, c.share, got, l.batch(), l.Shared(), c.want, c.batch, c.shared)
			}
		}
		l.Set(10, 0)
		synctest.Wait()
		cancel()
		<-done
		if got := l.free(); got != 1000 {
			t.Errorf("at the end %d permits are free, want all 1000", got)
		}
	})
}

func TestLimit_LowerOneTakesNothingAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		l := NewLimit(1000, 8)
		if !l.permits.TryAcquire(1000) {
			t.Fatal("a fresh limit is not all there")
		}
		go l.Run(ctx)
		l.Set(100, 0)
		time.Sleep(5 * time.Second) // virtual time; it waits in vain
		l.permits.Release(950)      // of the thousand in flight fifty are left
		time.Sleep(withholdWait)
		synctest.Wait()
		if got := l.free(); got != 50 {
			t.Errorf("with 50 in flight of 100 that may be, %d permits are free, want 50", got)
		}
		// It gives way at once when it is raised while it waits.
		if !l.permits.TryAcquire(50) {
			t.Fatal("the rest cannot be had")
		}
		l.Set(20, 0)
		time.Sleep(10 * withholdWait)
		l.Set(1000, 0)
		time.Sleep(withholdWait)
		synctest.Wait()
		if got := l.free(); got != 900 {
			t.Errorf("raised again with 100 in flight, %d permits are free, want 900", got)
		}
	})
}
