package simulator

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/scheduler/gate"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

// fleet is one instance of Rebound, under the built-in policies, with the operations of
// several services.
type fleet struct {
	*clock
	random  *rand.Rand
	jitter  func() float64
	targets map[string]*server // by service
	rebound *rebound
	// votes and pressure are the instance's own: it is alone.
	votes    gate.Votes
	pressure gate.Pressure
	delays   gate.Delays
	// busy is when other processes keep the instance's host busy.
	busy       []span
	operations []*operation
	tries      []try
	// opened is how many attempts of a service had failed when its breaker first opened.
	opened map[string]int
	failed map[string]int
	// unreached is how often nobody was reached, which is no attempt.
	unreached int
}

// load is a stream of operations that failed elsewhere and are handed over.
type load struct {
	service, kind string
	target        string // the target that several services may share
	rate          float64
	from, to      time.Duration
	burst         int // handed over at once at from
}

// span is a time of the simulation.
type span struct{ from, to time.Duration }

// try is one attempt.
type try struct {
	*operation
	late      time.Duration
	at, ended time.Time
	succeeded bool
	absent    bool
}

func newFleet(targets map[string]Target, loads []load, inHand int, seed uint64) *fleet {
	c := newClock()
	f := &fleet{
		clock: c, random: rand.New(rand.NewPCG(seed, 1)), jitter: rand.New(rand.NewPCG(seed, 2)).Float64,
		targets: map[string]*server{}, opened: map[string]int{}, failed: map[string]int{},
	}
	f.rebound = newRebound(c, f, policy.Builtin())
	if inHand > 0 {
		f.rebound.hand = &hand{most: inHand}
	}
	f.judgePressure()
	f.echo()
	servers := map[string]*server{}
	for _, l := range loads {
		if servers[l.target] == nil {
			servers[l.target] = &server{Target: targets[l.target], clock: c, random: rand.New(rand.NewPCG(seed, uint64(3+len(servers))))}
		}
		f.targets[l.service] = servers[l.target]
		f.rebound.key(l.service, l.kind)
		f.at(start.Add(l.from), func() {
			for range l.burst {
				f.handOver(l)
			}
			if l.rate > 0 {
				f.arrive(l)
			}
		})
	}
	return f
}

// judgePressure counts the votes of the services, each second.
func (f *fleet) judgePressure() {
	limits := gate.Limits{}.OrDefaults()
	m := gate.Measures{}
	m.Voting, m.Failing = gate.CountVotes(f.votes.Counts(f.now), limits.FailureShare)
	var changed bool
	f.pressure, changed = f.pressure.Step(m, limits, f.now)
	if changed {
		f.rebound.setTrickle(f.pressure.Trickles())
	}
	f.after(time.Second, f.judgePressure)
}

// arrive schedules the next operation of a load.
func (f *fleet) arrive(l load) {
	f.after(time.Duration(f.random.ExpFloat64()/l.rate*float64(time.Second)), func() {
		if f.now.Sub(start) < l.to {
			f.handOver(l)
			f.arrive(l)
		}
	})
}

func (f *fleet) handOver(l load) {
	op := &operation{service: l.service, kind: l.kind, priority: pickPriority(f.random), attempts: 1, first: f.now}
	f.operations = append(f.operations, op)
	f.rebound.failed(op, answer{failed: true, failure: policy.Failure{Code: "503", Message: "unavailable"}})
}

// attempt implements site.
func (f *fleet) attempt(op *operation, done func(a answer) bool, then func(a answer)) {
	op.attempts++
	n := len(f.tries)
	f.tries = append(f.tries, try{operation: op, late: f.now.Sub(op.due), at: f.now})
	began := f.now
	f.targets[op.service].ask(op, func(a answer) {
		f.after(f.delayed(), func() {
			a.took = f.now.Sub(began)
			f.tries[n].ended, f.tries[n].succeeded, f.tries[n].absent = f.now, !a.failed, a.absent
			if !done(a) {
				op.attempts--
				f.unreached++
				return
			}
			if a.failed {
				f.failed[op.service]++
			}
			f.votes.Add(events.HashService(op.service), resultOf(a), f.now)
			f.noteOpened(op)
			if a.failed {
				then(a)
				return
			}
			op.ended = true
		})
	})
}

// delayed returns how much later than the answer the instance is given the processor.
func (f *fleet) delayed() time.Duration {
	since := f.now.Sub(start)
	if !slices.ContainsFunc(f.busy, func(s span) bool { return since >= s.from && since < s.to }) {
		return 0
	}
	return time.Duration(f.random.ExpFloat64() * float64(busyDelay))
}

// own implements site.
func (f *fleet) own() time.Duration { return f.delays.Own() }

// echo measures the instance's own delay, which is independent of that of any answer.
func (f *fleet) echo() {
	f.delays.Add(f.delayed())
	f.after(echoEvery, f.echo)
}

// echoEvery is how often the instance measures its own delay.
const echoEvery = 50 * time.Millisecond

// busyDelay is the mean time for which a process waits for a processor of a busy host, as
// measured beside four busy loops on two processors.
const busyDelay = 100 * time.Millisecond

func (f *fleet) noteOpened(op *operation) {
	if _, known := f.opened[op.service]; !known && f.rebound.key(op.service, op.kind).breaker.State() == breaker.Open {
		f.opened[op.service] = f.failed[op.service]
	}
}

// decide implements site.
func (f *fleet) decide(p *policy.Policy, op *operation, a answer, s policy.Signals) policy.Decision {
	return p.Decide(op.input(a, s, f.now), f.jitter)
}

// giveUp implements site.
func (*fleet) giveUp(op *operation) { op.ended, op.gaveUp = true, true }

// play lets the fleet run.
func (f *fleet) play(ctx context.Context, d time.Duration) error { return f.run(ctx, start.Add(d)) }

// wanted selects operations.
type wanted func(op *operation) bool

func anything(*operation) bool { return true }

// unfinished counts the operations that are not delivered, of those that are wanted.
func (f *fleet) unfinished(want wanted) (unfinished, gaveUp int) {
	for _, op := range f.operations {
		switch {
		case !want(op):
		case op.gaveUp:
			gaveUp++
		case !op.ended:
			unfinished++
		}
	}
	return unfinished, gaveUp
}

// wasted counts the attempts that failed.
func (f *fleet) wasted(want wanted) (n int) {
	for i := range f.tries {
		if t := &f.tries[i]; want(t.operation) && !t.succeeded && !t.absent && !t.ended.IsZero() {
			n++
		}
	}
	return n
}

// lateness returns a percentile of how much later than due the attempts began.
func (f *fleet) lateness(want wanted, percent int) time.Duration {
	var all []time.Duration
	for i := range f.tries {
		if t := &f.tries[i]; want(t.operation) {
			all = append(all, t.late)
		}
	}
	return percentile(all, percent)
}

// until returns a percentile of how long operations took from their first failure to their
// success.
func (f *fleet) until(want wanted, percent int) time.Duration {
	var all []time.Duration
	for i := range f.tries {
		if t := &f.tries[i]; want(t.operation) && t.succeeded {
			all = append(all, t.ended.Sub(t.first))
		}
	}
	return percentile(all, percent)
}

func percentile(all []time.Duration, percent int) time.Duration {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[min(len(all)*percent/100, len(all)-1)]
}

// peak returns the most attempts within a second after a time.
func (f *fleet) peak(want wanted, after time.Duration) int {
	m := measurement{}
	for i := range f.tries {
		if want(f.tries[i].operation) {
			m.request(f.tries[i].at)
		}
	}
	return int(m.peak(after))
}

// succeededIn counts the successes within a span.
func (f *fleet) succeededIn(from, to time.Time) (n int) {
	for i := range f.tries {
		if t := &f.tries[i]; t.succeeded && !t.ended.Before(from) && t.ended.Before(to) {
			n++
		}
	}
	return n
}

// firstSuccess returns when an attempt first succeeded after a time, and zero if none did.
func (f *fleet) firstSuccess(want wanted, after time.Duration) (first time.Time) {
	for i := range f.tries {
		t := &f.tries[i]
		if want(t.operation) && t.succeeded && !t.ended.Before(start.Add(after)) && (first.IsZero() || t.ended.Before(first)) {
			first = t.ended
		}
	}
	return first
}

// drained returns when the last attempt ended.
func (f *fleet) drained(want wanted) (last time.Time) {
	for i := range f.tries {
		if t := &f.tries[i]; want(t.operation) && t.ended.After(last) {
			last = t.ended
		}
	}
	return last
}
