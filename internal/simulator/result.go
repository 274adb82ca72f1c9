package simulator

import (
	"slices"
	"time"

	"github.com/rebound-mq/rebound/events"
)

// Result is what came of a run.
type Result struct {
	Scenario string `json:"scenario"`
	Strategy string `json:"strategy"`
	// Operations is how many operations failed at their first try. They Succeeded
	// later, were given up, or were left when the patience ended.
	Operations int `json:"operations"`
	Succeeded  int `json:"succeeded"`
	GivenUp    int `json:"givenUp"`
	Left       int `json:"left"`
	// Goodput is how many operations a second succeeded, at the first try or
	// later, from the start until no more operations arrived.
	Goodput float64 `json:"goodput"`
	// Retries is how many attempts were made after the first tries, Wasted how
	// many of them failed, and MostAttempts the most that one operation took that
	// is not of the poisoned type.
	Retries      int `json:"retries"`
	Wasted       int `json:"wasted"`
	MostAttempts int `json:"mostAttempts"`
	// PeakLoad is the most requests that came within a second once the target had
	// healed, as a multiple of its capacity.
	PeakLoad float64 `json:"peakLoad"`
	// Backlog is how many operations, those of the poisoned type aside, waited when the target had healed, DrainMs how
	// long it took until the last of them ended, and IdealMs how long it takes a
	// target that is busy all the time with them and the first tries. All times are
	// in milliseconds.
	Backlog int     `json:"backlog"`
	DrainMs float64 `json:"drainMs"`
	IdealMs float64 `json:"idealMs"`
	// Latency is how long after its first failure an operation succeeded, by
	// priority.
	Latency map[string]Latency `json:"latency"`
}

// Latency are percentiles.
type Latency struct {
	P50Ms float64 `json:"p50Ms"`
	P99Ms float64 `json:"p99Ms"`
}

// measurement collects what a Result is made of.
type measurement struct {
	load         []int       // requests by tenths of a second
	firsts       []time.Time // when first tries succeeded
	operations   int
	ends         []end
	handed       []time.Time
	retries      int
	wasted       int
	mostAttempts int
}

// end is how an operation ended.
type end struct {
	*operation
	at        time.Time
	succeeded bool
}

const tenth = time.Second / 10

func (m *measurement) request(now time.Time) {
	i := int(now.Sub(start) / tenth)
	for len(m.load) <= i {
		m.load = append(m.load, 0)
	}
	m.load[i]++
}

func (m *measurement) firstTime(now time.Time) { m.firsts = append(m.firsts, now) }
func (m *measurement) retry()                  { m.retries++ }

func (m *measurement) handedOver(op *operation, now time.Time) {
	m.operations++
	if op.kind != poisoned {
		m.handed = append(m.handed, now)
	}
}

func (m *measurement) wastedRetry(op *operation) {
	m.wasted++
	m.attempts(op)
}

func (m *measurement) attempts(op *operation) {
	if op.kind != poisoned {
		m.mostAttempts = max(m.mostAttempts, op.attempts)
	}
}

func (m *measurement) succeededAt(op *operation, now time.Time) {
	m.attempts(op)
	m.ends = append(m.ends, end{op, now, true})
}

func (m *measurement) gaveUpAt(op *operation, now time.Time) {
	m.ends = append(m.ends, end{op, now, false})
}

// result sums up.
func (m *measurement) result(strategy string, w *world) Result {
	r := Result{
		Scenario: w.Name, Strategy: strategy, Operations: m.operations,
		Retries: m.retries, Wasted: m.wasted, MostAttempts: m.mostAttempts,
		PeakLoad: m.peak(w.Healed) / w.Target.Capacity(), Latency: map[string]Latency{},
	}
	healed := start.Add(w.Healed)
	for _, at := range m.handed {
		if at.Before(healed) {
			r.Backlog++
		}
	}
	for _, e := range m.ends {
		if e.kind != poisoned && e.first.Before(healed) {
			r.drain(e.at, healed)
		}
		if e.succeeded {
			r.Succeeded++
		} else {
			r.GivenUp++
		}
	}
	r.Left = r.Operations - r.Succeeded - r.GivenUp
	r.Goodput = float64(m.good(start.Add(w.Length))) / w.Length.Seconds()
	r.IdealMs = 1000 * float64(r.Backlog) / w.spare()
	m.latencies(r.Latency)
	return r
}

// drain counts an operation of the backlog that ended.
func (r *Result) drain(at, healed time.Time) {
	if at.Before(healed) {
		r.Backlog--
	}
	r.DrainMs = max(r.DrainMs, events.InMilliseconds(at.Sub(healed)))
}

// good counts the operations that succeeded before a time, at the first try or later.
func (m *measurement) good(before time.Time) int {
	n := 0
	for _, at := range m.firsts {
		if at.Before(before) {
			n++
		}
	}
	for _, e := range m.ends {
		if e.succeeded && e.at.Before(before) {
			n++
		}
	}
	return n
}

// latencies fills in how long operations took to succeed, by priority.
func (m *measurement) latencies(to map[string]Latency) {
	took := map[events.Priority][]time.Duration{}
	for _, e := range m.ends {
		if e.succeeded {
			took[e.priority] = append(took[e.priority], e.at.Sub(e.first))
		}
	}
	for p, list := range took {
		slices.Sort(list)
		to[p.String()] = Latency{
			P50Ms: events.InMilliseconds(list[len(list)/2]),
			P99Ms: events.InMilliseconds(list[len(list)*99/100]),
		}
	}
}

// spare is what the target can do for the backlog beside the first tries.
func (w *world) spare() float64 {
	if w.Healed >= w.Length {
		return w.Target.Capacity()
	}
	return w.Target.Capacity() - w.Rate
}

// peak returns the most requests within any second since.
func (m *measurement) peak(since time.Duration) float64 {
	const second = int(time.Second / tenth)
	sum, most := 0, 0
	begin := int(since / tenth)
	for i := begin; i < len(m.load); i++ {
		sum += m.load[i]
		if i-begin >= second {
			sum -= m.load[i-second]
		}
		most = max(most, sum)
	}
	return float64(most)
}
