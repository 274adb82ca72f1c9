package serve

import (
	"log/slog"
	"math"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"

	"github.com/rebound-mq/rebound/internal/testkit"
	"github.com/rebound-mq/rebound/scheduler/gate"
)

func TestHeapLimit_LeavesRoomBelowTheLevelAtWhichMemoryIsShort(t *testing.T) {
	const cgroup = 1 << 30
	short := gate.Limits{}.OrDefaults().Memory * cgroup
	if got := heapLimit(cgroup); got < cgroup/2 || float64(got) >= short {
		t.Errorf("of %d bytes Go may take %d, want at least half and less than %.0f", cgroup, got, short)
	}
	if got := heapLimit(0); got != 0 {
		t.Errorf("without a limit Go gets one of %d bytes, want none", got)
	}
}

func TestLimitHeap_LetsAnOperatorsLimitStand(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	t.Cleanup(func() { debug.SetMemoryLimit(before) })
	debug.SetMemoryLimit(math.MaxInt64 - 1)
	t.Setenv(goLimitVariable, "1TiB")
	limitHeap(slog.New(slog.DiscardHandler))
	if got := debug.SetMemoryLimit(-1); got != math.MaxInt64-1 {
		t.Errorf("the limit became %d although the operator has set one", got)
	}
}

func TestPaceCollections_CollectsLessOftenWhileLittleIsInUse(t *testing.T) {
	for name, tc := range map[string]struct {
		inUse uint64
		want  int
	}{
		"nothing known":        {0, mostPercent},
		"a service":            {16 << 20, 400},
		"as much as garbage":   {leastGarbage, usualPercent},
		"a server with a lot":  {1 << 30, usualPercent},
		"a fraction of little": {1 << 20, mostPercent},
	} {
		if got := collectAt(tc.inUse); got != tc.want {
			t.Errorf("%s: garbage may be %d %% of what is in use, want %d %%", name, got, tc.want)
		}
	}
}

func TestPaceCollections_FollowsWhatIsInUse(t *testing.T) {
	before := debug.SetGCPercent(usualPercent)
	t.Cleanup(func() { debug.SetGCPercent(before) })
	t.Setenv(goPercentVariable, "")
	paceCollections()
	percent := func() int {
		samples := []metrics.Sample{{Name: "/gc/gogc:percent"}}
		metrics.Read(samples)
		return int(samples[0].Value.Uint64())
	}
	testkit.Eventually(t, time.Minute, "garbage being collected less often", func() bool {
		runtime.GC()
		return percent() > usualPercent
	})
	full := make([]byte, 2*leastGarbage)
	testkit.Eventually(t, time.Minute, "garbage being collected as usual beside much that is in use", func() bool {
		runtime.GC()
		return percent() == usualPercent
	})
	runtime.KeepAlive(full)
}
