package serve

import (
	"log/slog"
	"math"
	"runtime/debug"
	"testing"

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
