package simulator

import (
	"slices"
	"time"

	"github.com/rebound-mq/rebound/events"
)

// Result is the result of a run.
type Result struct {
	Scenario string `json:"scenario"`
	Strategy string `json:"strategy"`
	// Operations counts the operations whose first try failed. They Succeeded later, were given
	// up, or were Left when the scenario's Patience ended.
	Operations int `json:"operations"`
	Succeeded  int `json:"succeeded"`
	GivenUp    int `json:"givenUp"`
	Left       int `json:"left"`
	// Goodput is the number of successes a second, at the first try or later, until no more
	// operations arrived.
	Goodput float64 `json:"goodput"`
	// Retries counts the attempts after the first tries, Wasted those that failed. MostAttempts
	// is the maximum for one operation that is not poisoned.
	Retries      int `json:"retries"`
	Wasted       int `json:"wasted"`
	MostAttempts int `json:"mostAttempts"`
	// PeakLoad is the maximum number of requests within a second after the target healed, as a
	// multiple of its capacity.
	PeakLoad float64 `json:"peakLoad"`
	// Backlog counts the operations, except poisoned ones, that waited when the target healed.
	// DrainMs is the time until the last of them ended, and IdealMs the time that a fully used
	// target needs for them beside the first tries, both in milliseconds.
	Backlog int     `json:"backlog"`
	DrainMs float64 `json:"drainMs"`
	IdealMs float64 `json:"idealMs"`
	// UntriedMs is the longest time, in milliseconds, that Rebound had due operations of a key
	// and made no attempt.
	UntriedMs float64 `json:"untriedMs"`
	// Latency is the time from first failure to success, by priority.
	Latency map[string]Latency `json:"latency"`
}

// Latency has percentiles in milliseconds.
type Latency struct {
	P50Ms float64 `json:"p50Ms"`
	P99Ms float64 `json:"p99Ms"`
}

// measurement collects the data for a Result.
type measurement struct {
	load         []int       // requests per tenth of a second
	firsts       []time.Time // times of successful first tries
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

// result computes the result.
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
	if w.rebound != nil {
		r.UntriedMs = events.InMilliseconds(w.rebound.untried())
	}
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

// latencies computes how long operations took to succeed, by priority.
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

// spare returns the target's capacity for the backlog, beside the first tries.
func (w *world) spare() float64 {
	if w.Healed >= w.Length {
		return w.Target.Capacity()
	}
	return w.Target.Capacity() - w.Rate
}

// peak returns the maximum number of requests within any second since the given time.
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
