package pull

import (
	"testing"
	"time"
)

func TestBatch_PullsEndByCountAtASteadyPace(t *testing.T) {
	var b batch
	if got := b.most(); got != MaxBatch {
		t.Errorf("the first pull asks for %d, want as many as may be, %d", got, MaxBatch)
	}
	timed := 0
	const inTime = 40 // messages come while a pull waits
	for range 20 {
		asked := b.most()
		if asked > inTime {
			timed++
		}
		b.had(asked, min(asked, inTime), fetchWait*time.Duration(min(asked, inTime))/inTime)
	}
	if timed > 1 || b.most() < inTime/2 {
		t.Errorf("of 20 pulls %d ended before all came, and the next asks for %d; want one, and about %d", timed, b.most(), inTime)
	}
	for range 3 {
		b.had(b.most(), 0, fetchWait)
	}
	if got := b.most(); got != 1 {
		t.Errorf("when nothing comes a pull asks for %d, want 1", got)
	}
	for range 8 {
		b.had(b.most(), b.most(), time.Millisecond)
	}
	if got := b.most(); got != MaxBatch {
		t.Errorf("in a flood a pull asks for %d after eight, want %d", got, MaxBatch)
	}
	b.had(2, 2, time.Millisecond) // the limit left no more
	if got := b.most(); got != MaxBatch {
		t.Errorf("after a pull for which the limit left little it asks for %d, want %d", got, MaxBatch)
	}
}
