package parallel_test

import (
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/rebound-mq/rebound/internal/parallel"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestPool_CallsEachOnceAndWaitsForAll(t *testing.T) {
	t.Parallel()
	const callers, each = 8, 500
	p := parallel.NewPool(4)
	var calls atomic.Int64
	var group sync.WaitGroup
	for range callers {
		group.Go(func() {
			for range each {
				// A call may begin another.
				p.Go(func() { p.Go(func() { calls.Add(1) }) })
			}
		})
	}
	group.Wait()
	p.Wait()
	if n := calls.Load(); n != callers*each {
		t.Errorf("%d calls were made, want %d", n, callers*each)
	}
}

func TestPool_NoCallWaitsForAnother(t *testing.T) {
	t.Parallel()
	const n = 100
	p := parallel.NewPool(1)
	var together sync.WaitGroup
	together.Add(n)
	for range n {
		p.Go(func() {
			together.Done()
			together.Wait()
		})
	}
	p.Wait()
}
