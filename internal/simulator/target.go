package simulator

import (
	"math/rand/v2"
	"time"

	"github.com/rebound-mq/rebound/scheduler/policy"
)

// Target is what operations are tried at: servers that take one request at a
// time, behind a queue that sheds what it has no room for. A request whose caller
// has given up waiting is served nevertheless, in vain; that, and contention, make
// overload feed itself.
type Target struct {
	// Servers is how many requests are served at once, and Service how long one
	// takes on average. Servers / Service is the capacity.
	Servers int
	Service time.Duration
	// Queue is how many requests may wait. What comes beyond is shed.
	Queue int
	// Sheds is how many requests a second the target takes on; it sheds what comes
	// beyond at once. 0 is any number. It allows for shedBurst requests at once.
	Sheds float64
	// Contention is by what share a full queue makes requests take longer.
	Contention float64
	// Timeout is for how long the callers wait.
	Timeout time.Duration
	// Plan is what goes wrong, and when.
	Plan []Trouble
	// Poisoned is the operation type that always fails; empty is none.
	Poisoned string
}

// Trouble is something that goes wrong for a while.
type Trouble struct {
	// From and To are since the start of the scenario.
	From, To time.Duration
	// Down refuses every request; Hang leaves it without an answer.
	Down, Hang bool
	// Failing is the share of requests that fail after they were served.
	Failing float64
	// Slow is by what factor requests take longer; 0 is 1.
	Slow float64
	// PerSecond is how many requests a second are not turned away with a
	// Retry-After of that length; 0 is all.
	PerSecond  int
	RetryAfter time.Duration
}

// shedBurst is how many requests may come at once to a target that sheds by rate.
const shedBurst = 10

// Capacity returns how many requests a second the target can serve.
func (t *Target) Capacity() float64 {
	served := float64(t.Servers) / t.Service.Seconds()
	if t.Sheds > 0 {
		return min(t.Sheds, served)
	}
	return served
}

// refusal is how long a target takes to say no.
const refusal = time.Millisecond

// server is a target at work.
type server struct {
	Target
	clock  *clock
	random *rand.Rand
	busy   int
	queue  []*request
	second time.Time // that of allowed
	passed int       // requests of this second that were not turned away
	next   time.Time // when the next request would come at the rate that is shed
}

// request is one attempt at the target.
type request struct {
	operation string
	answer    func(answer)
	answered  bool
}

// answer is how a request ended. A zero failure is a success.
type answer struct {
	failed  bool
	failure policy.Failure
	took    time.Duration
}

// ask sends a request. answer is called once, later.
func (s *server) ask(operation string, reply func(answer)) {
	began := s.clock.now
	r := &request{operation: operation}
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

// giveUp ends the caller's wait in time.
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

// takesOn tells whether one more request is within the rate.
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

// trouble returns what goes wrong now.
func (s *server) trouble() Trouble {
	since := s.clock.now.Sub(start)
	for _, t := range s.Plan {
		if since >= t.From && since < t.To {
			return t
		}
	}
	return Trouble{}
}

// Words of the target's failures.
const (
	overloaded = "overloaded"
	timedOut   = "TIMEOUT"
)
