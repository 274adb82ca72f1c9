package shrink_test

import (
	"runtime"
	"testing"

	"github.com/rebound-mq/rebound/internal/shrink"
)

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestMap_NearlyEmptyMapReleasesItsMemory(t *testing.T) {
	const most, left, step = 1 << 20, 10, 1000
	before := heap()
	m := make(map[int]int)
	for i := range most {
		m[i] = -i
	}
	took := heap() - before
	// It loses its entries little by little.
	for from := left; from < most; from += step {
		n := len(m)
		for i := from; i < min(from+step, most); i++ {
			delete(m, i)
		}
		m = shrink.Map(m, n-len(m))
	}
	for i := range left {
		if m[i] != -i {
			t.Errorf("entry %d is %d, want %d", i, m[i], -i)
		}
	}
	if keeps := heap() - before; len(m) != left || keeps > took/100 {
		t.Errorf("a map with %d entries left keeps %d of %d bytes", len(m), keeps, took)
	}
	runtime.KeepAlive(m)
}

func TestMap_MapWithMostOfItsEntriesIsNotCopied(t *testing.T) {
	m := make(map[int]bool)
	for i := range 3000 {
		m[i] = true
	}
	for name, deleted := range map[string]int{"none": 0, "less than half": 2999} {
		same := shrink.Map(m, deleted)
		same[-1] = true
		if !m[-1] {
			t.Errorf("with %s of its entries deleted it is copied", name)
		}
		delete(m, -1)
	}
}
