package keeper

import (
	"runtime"
	"testing"
)

func TestForgetter_KeysForgottenInGreatNumberGiveTheirMemoryBack(t *testing.T) {
	const chunks, size = 1000, 64 << 10
	keys := make(map[int][]byte)
	for i := range chunks {
		keys[i] = make([]byte, size)
		for at := 0; at < size; at += 4 << 10 {
			keys[i][at] = 1 // so that the page becomes resident
		}
	}
	var before, few, many runtime.MemStats
	clear(keys)
	runtime.ReadMemStats(&before)
	if left := returnMemory(manyForgotten - 1); left != manyForgotten-1 {
		t.Errorf("the memory of %d keys is left to be returned, want that of %d", left, manyForgotten-1)
	}
	runtime.ReadMemStats(&few)
	if left := returnMemory(manyForgotten); left != 0 {
		t.Errorf("the memory of %d keys is left to be returned, want that of none", left)
	}
	runtime.ReadMemStats(&many)
	if few.NumForcedGC != before.NumForcedGC {
		t.Error("a few keys that are forgotten force a collection")
	}
	if returned := int64(many.HeapReleased) - int64(before.HeapReleased); returned < chunks*size/2 {
		t.Errorf("%d bytes were returned to the system, want most of the %d that are not used any more", returned, chunks*size)
	}
}
