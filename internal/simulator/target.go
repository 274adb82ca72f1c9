package simulator

import (
	"math/rand/v2"
	"time"

	"github.com/rebound-mq/rebound/scheduler/policy"
)

// Target is what operations are tried at: servers that handle one request at a time, behind a
// queue that sheds what does not fit. A request whose caller has stopped waiting is served
// nevertheless; that, and contention, make overload feed itself.
type Target struct {
	// Servers is the number of requests served at once, Service the mean duration of one. The
	// capacity is Servers / Service.
	Servers int
	Service time.Duration
	// Queue bounds the waiting requests; the rest is shed.
	Queue int
	// Sheds is the number of requests accepted per second; the rest is shed at once. 0 is no
	// limit. Up to shedBurst requests may come at once.
	Sheds float64
	// Contention is by what share a full queue lengthens the requests.
	Contention float64
	// Timeout is how long callers wait.
	Timeout time.Duration
	// Plan lists the troubles over time.
	Plan []Trouble
	// Poisoned is the operation type that always fails; empty is none.
	Poisoned string
	// FailsFirst makes the first redelivery of every operation fail.
	FailsFirst bool
}

// Trouble is a problem of the target for a while.
type Trouble struct {
	// From and To are measured from the start of the scenario.
	From, To time.Duration
	// Away has no responders; Down refuses every request; Hang does not answer.
	Away, Down, Hang bool
	// Failing is the share of requests that fail after they were served.
	Failing float64
	// Slow is the factor by which requests take longer; 0 means 1.
	Slow float64
	// PerSecond is the number of requests a second that are not rejected with RetryAfter; 0 is
	// all.
	PerSecond  int
	RetryAfter time.Duration
}

// shedBurst is the burst of a target that sheds by rate.
const shedBurst = 10

// Capacity returns the number of requests a second that the target can serve.
func (t *Target) Capacity() float64 {
	served := float64(t.Servers) / t.Service.Seconds()
	if t.Sheds > 0 {
		return min(t.Sheds, served)
	}
	return served
}

// refusal is how long a refusal takes.
const refusal = time.Millisecond

// server is a running target.
type server struct {
	Target
	clock  *clock
	random *rand.Rand
	busy   int
	queue  []*request
	second time.Time // the second counted by passed
	passed int       // requests accepted in second
	next   time.Time // time of the next request at the rate Sheds
}

// request is one attempt at the target.
type request struct {
	operation string
	first     bool // the first redelivery of its operation
	answer    func(answer)
	answered  bool
}

// answer is how a request ended.
type answer struct {
	failed  bool
	absent  bool // nobody was reached
	failure policy.Failure
	took    time.Duration
}

// ask sends a request. reply is called once, later.
func (s *server) ask(op *operation, reply func(answer)) {
	began := s.clock.now
	r := &request{operation: op.kind, first: op.attempts == 2}
	r.answer = func(a answer) {
		if r.answered {
			return
		}
		r.answered = true
		a.took = s.clock.now.Sub(began)
		a.failure.Duration = a.took
		reply(a)
	}
	trouble := s.trouble()
	switch {
	case trouble.Away:
		s.clock.after(refusal, func() {
			r.answer(answer{failed: true, absent: true, failure: policy.Failure{Code: "no_responders", Message: "nobody listens on the target"}})
		})
	case trouble.Hang:
		s.giveUp(r)
	case trouble.Down:
		s.refuse(r, policy.Failure{Code: "503", Message: "connection refused"})
	case trouble.PerSecond > 0 && !s.passes(trouble.PerSecond):
		s.refuse(r, policy.Failure{Code: "429", Message: "too many requests", RetryAfter: trouble.RetryAfter})
	case s.Sheds > 0 && !s.takesOn():
		s.refuse(r, policy.Failure{Code: "503", Message: overloaded})
	case s.busy < s.Servers:
		s.giveUp(r)
		s.serve(r)
	case len(s.queue) < s.Queue:
		s.giveUp(r)
		s.queue = append(s.queue, r)
	default:
		s.refuse(r, policy.Failure{Code: "503", Message: overloaded})
	}
}

func (s *server) refuse(r *request, f policy.Failure) {
	s.clock.after(refusal, func() { r.answer(answer{failed: true, failure: f}) })
}

// giveUp ends the caller's wait after the timeout.
func (s *server) giveUp(r *request) {
	s.clock.after(s.Timeout, func() {
		r.answer(answer{failed: true, failure: policy.Failure{Code: timedOut, Message: "no reply in time"}})
	})
}

func (s *server) passes(perSecond int) bool {
	if second := s.clock.now.Truncate(time.Second); !second.Equal(s.second) {
		s.second, s.passed = second, 0
	}
	s.passed++
	return s.passed <= perSecond
}

// takesOn reports whether one more request is within the rate Sheds.
func (s *server) takesOn() bool {
	interval := time.Duration(float64(time.Second) / s.Sheds)
	if s.next.Sub(s.clock.now) > shedBurst*interval {
		return false
	}
	if s.next.Before(s.clock.now) {
		s.next = s.clock.now
	}
	s.next = s.next.Add(interval)
	return true
}

func (s *server) serve(r *request) {
	s.busy++
	trouble := s.trouble()
	slow := max(trouble.Slow, 1)
	if s.Queue > 0 {
		slow *= 1 + s.Contention*float64(len(s.queue))/float64(s.Queue)
	}
	spread := 0.5 + s.random.Float64() // half as long to half as long again
	s.clock.after(time.Duration(float64(s.Service)*slow*spread), func() {
		s.busy--
		switch {
		case r.operation == s.Poisoned && s.Poisoned != "":
			r.answer(answer{failed: true, failure: policy.Failure{Code: "500", Message: "cannot handle this"}})
		case r.first && s.FailsFirst:
			r.answer(answer{failed: true, failure: policy.Failure{Code: "500", Message: "not yet"}})
		case s.random.Float64() < trouble.Failing:
			r.answer(answer{failed: true, failure: policy.Failure{Code: "500", Message: "internal error"}})
		default:
			r.answer(answer{})
		}
		if len(s.queue) > 0 && s.busy < s.Servers {
			next := s.queue[0]
			s.queue = s.queue[1:]
			s.serve(next)
		}
	})
}

// trouble returns the current trouble.
func (s *server) trouble() Trouble {
	since := s.clock.now.Sub(start)
	for _, t := range s.Plan {
		if since >= t.From && since < t.To {
			return t
		}
	}
	return Trouble{}
}

// Texts of the target's failures.
const (
	overloaded = "overloaded"
	timedOut   = "TIMEOUT"
)
