package serve

import (
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"

	"github.com/rebound-mq/rebound/internal/host"
)

// The environment variables by which an operator tells Go how much garbage it may keep. What is
// set there stands.
const (
	goLimitVariable   = "GOMEMLIMIT"
	goPercentVariable = "GOGC"
)

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

const (
	// leastGarbage is how much garbage there may be before it is collected, in bytes. Go would
	// collect as soon as it is as much as what is in use, which is so little in a service that
	// keeps no operations in memory that collecting took a fifth of its CPU time. With more in
	// use, as by the embedded server, Go's own rule counts.
	leastGarbage = 64 << 20
	// usualPercent is Go's own rule, and mostPercent keeps the one for little in use sensible.
	usualPercent, mostPercent = 100, 1000
)

// paceCollections makes Go collect garbage no earlier than there are [leastGarbage] bytes of it.
func paceCollections() {
	if os.Getenv(goPercentVariable) == "" {
		paceNext(usualPercent)
	}
}

// paceNext sets the pace after each collection, which it notices by an object that the collection
// frees.
func paceNext(percent int) {
	runtime.AddCleanup(new([64]byte), func(percent int) {
		next := collectAt(collectable())
		// Setting it stops the world for a moment.
		if next > percent*11/10 || next < percent*9/10 {
			debug.SetGCPercent(next)
			percent = next
		}
		paceNext(percent)
	}, percent)
}

// collectAt returns the percentage of what is in use, in bytes, that garbage may be.
func collectAt(inUse uint64) int {
	return int(min(max(leastGarbage*100/max(inUse, 1), usualPercent), mostPercent))
}

// collectable returns the bytes of which Go takes the percentage: what the last collection found in
// use, with the stacks and globals that it searched.
func collectable() (bytes uint64) {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"}}
	metrics.Read(samples)
	for _, s := range samples {
		bytes += s.Value.Uint64()
	}
	return bytes
}
