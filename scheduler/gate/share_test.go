package gate

import (
	"testing"

	"pgregory.net/rapid"
)

func TestThreshold_GreedyKeysAlwaysLeaveRoomForOneMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		capacity := rapid.IntRange(1, 10_000).Draw(t, "capacity")
		keys := make([]int, rapid.IntRange(1, 40).Draw(t, "greedy keys"))
		used := 0
		for grown := true; grown; {
			grown = false
			for i := range keys {
				if keys[i] < Threshold(capacity, used) && used < capacity {
					keys[i]++
					used++
					grown = true
				}
			}
		}
		// Of n keys each gets αB/(1+nα), so B/(1+nα) is free.
		if want := capacity/(1+shareFactor*len(keys)) - 1; capacity-used < want {
			t.Fatalf("%d greedy keys leave %d of %d, want %d at least", len(keys), capacity-used, capacity, want)
		}
		if len(keys) == 1 && used < capacity*3/4 {
			t.Fatalf("a key that is alone gets %d of %d, want three quarters at least", used, capacity)
		}
	})
}

func TestThreshold_AKeyWithNothingInFlightMayAlwaysSend(t *testing.T) {
	if got := Threshold(100, 300); got != 1 {
		t.Errorf("the threshold of an instance that is full is %d, want 1", got)
	}
}
