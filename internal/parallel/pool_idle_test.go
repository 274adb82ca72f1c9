package parallel

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestPool_KeepsNoMoreGoroutinesThanItMay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = 3
		p := NewPool(most)
		var together sync.WaitGroup
		together.Add(10)
		for range 10 {
			p.Go(func() {
				together.Done()
				together.Wait()
			})
		}
		synctest.Wait()
		if kept := p.idle.Load(); kept != most {
			t.Errorf("%d goroutines wait for the next call, want %d", kept, most)
		}
		p.Go(func() {})
		synctest.Wait()
		if kept := p.idle.Load(); kept != most {
			t.Errorf("after another call %d goroutines wait for the next, want %d", kept, most)
		}
		time.Sleep(2 * restFor)
		synctest.Wait()
		if kept := p.idle.Load(); kept != 0 {
			t.Errorf("after a rest %d goroutines wait for the next call, want none", kept)
		}
		p.Wait()
	})
}
