package serve

import (
	"log/slog"
	"os"
	"runtime/debug"

	"github.com/rebound-mq/rebound/internal/host"
)

// goLimitVariable is the environment variable by which Go is told the limit of its memory.
const goLimitVariable = "GOMEMLIMIT"

// limitHeap makes Go collect garbage more often before the process reaches the memory limit of its
// cgroup, where the kernel would kill it: beside many parked operations half of the embedded
// server's memory is garbage. An operator's own limit stands.
func limitHeap(log *slog.Logger) {
	if os.Getenv(goLimitVariable) != "" {
		return
	}
	limit, err := host.MemoryLimit()
	if err != nil {
		log.Warn("the memory limit of the cgroup is not known; set "+goLimitVariable+" if there is one", "error", err)
		return
	}
	if limit = heapLimit(limit); limit > 0 {
		debug.SetMemoryLimit(limit)
		log.Debug("garbage is collected within the memory limit of the cgroup", "bytes", limit)
	}
}

// heapLimit returns what Go may take of a cgroup's memory limit, 0 without one. It is less than the
// share from which an instance takes fewer operations because memory is short, so that garbage never
// has that effect.
func heapLimit(cgroup int64) int64 { return cgroup / 10 * 8 }
