package host

import (
	"errors"
	"math"
	"runtime/metrics"
	"time"

	"github.com/rebound-mq/rebound/scheduler/gate"
)

// schedulerLatencies is the runtime's histogram of how long goroutines were ready to run
// before they ran.
const schedulerLatencies = "/sched/latencies:seconds"

// Own measures how far this process uses up what is its own: Go's scheduler, and the CPU and
// memory of its cgroup. It is for one goroutine.
type Own struct {
	group   *cgroup // nil without one of its own
	samples []metrics.Sample
	counts  []uint64      // of the latencies at the last measurement
	waited  time.Duration // for CPU until the last measurement
	at      time.Time     // when that was
}

// NewOwn returns a meter of this process. The error says why its cgroup is not measured; the
// meter serves all the same.
func NewOwn() (*Own, error) {
	group, err := ownCgroup()
	o := &Own{group: group, samples: []metrics.Sample{{Name: schedulerLatencies}}}
	_, measureErr := o.Measure(time.Now())
	return o, errors.Join(err, measureErr)
}

// MemoryLimit returns the memory limit of this process's cgroup in bytes, 0 if it has none. It is
// safe for concurrent use.
func MemoryLimit() (int64, error) {
	group, err := ownCgroup()
	if group == nil || err != nil {
		return 0, err
	}
	return group.memoryLimit()
}

// Measure returns the saturation since the last call. With an error, what could not be measured
// counts as idle.
func (o *Own) Measure(now time.Time) (s gate.Saturation, err error) {
	s.SchedulerDelay = o.schedulerDelay()
	if o.group == nil {
		return s, nil
	}
	waited, err := o.group.waitedForCPU()
	if passed := now.Sub(o.at); err == nil && passed > 0 && !o.at.IsZero() {
		s.CPUPressure = min(max((waited-o.waited).Seconds()/passed.Seconds(), 0), 1)
	}
	o.waited, o.at = waited, now
	used, memErr := o.group.memory()
	s.Memory = used
	return s, errors.Join(err, memErr)
}

// schedulerDelay returns the 99th percentile of the latencies since the last call.
func (o *Own) schedulerDelay() time.Duration {
	metrics.Read(o.samples)
	if o.samples[0].Value.Kind() != metrics.KindFloat64Histogram {
		return 0
	}
	h := o.samples[0].Value.Float64Histogram()
	since := make([]uint64, len(h.Counts))
	for i, n := range h.Counts {
		since[i] = n
		if i < len(o.counts) {
			since[i] -= o.counts[i]
		}
	}
	o.counts = append(o.counts[:0], h.Counts...)
	return percentile(since, h.Buckets, 0.99)
}

// percentile returns the upper bound of the bucket of the given quantile. Bucket i is between
// bounds i and i+1, in seconds.
func percentile(counts []uint64, bounds []float64, quantile float64) time.Duration {
	all := uint64(0)
	for _, n := range counts {
		all += n
	}
	rank, below := uint64(math.Ceil(quantile*float64(all))), uint64(0)
	for i, n := range counts {
		if below += n; below < rank || n == 0 {
			continue
		}
		bound := bounds[i+1]
		if math.IsInf(bound, 1) {
			bound = bounds[i]
		}
		return time.Duration(max(bound, 0) * float64(time.Second))
	}
	return 0
}
