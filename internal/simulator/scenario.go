package simulator

import "time"

// Scenario is a target with its troubles, and the load on it.
type Scenario struct {
	Name string
	// About describes the scenario in a sentence.
	About  string
	Target Target
	// Rate is the number of first tries a second, until Length.
	Rate   float64
	Length time.Duration
	// Burst changes the rate for a while.
	Burst Burst
	// PoisonedShare is the share of operations of the poisoned type.
	PoisonedShare float64
	// Healed is when the target has recovered; what is then left is the backlog.
	Healed time.Duration
	// Patience is when the simulation ends at the latest.
	Patience time.Duration
}

// Burst is a rate for a while.
type Burst struct {
	From, To time.Duration
	Rate     float64
}

// The operation types of the scenarios.
const (
	service  = "simulated"
	ordinary = "ordinary"
	poisoned = "poisoned"
)

// sturdy returns a target with a capacity of 500 requests a second that answers in 20 ms.
func sturdy(plan ...Trouble) Target {
	return Target{Servers: 10, Service: 20 * time.Millisecond, Queue: 100, Timeout: 2 * time.Second, Plan: plan}
}

// Scenarios returns new copies of all scenarios.
func Scenarios() []Scenario {
	return []Scenario{
		{
			Name: "short-outage", About: "the target is down for 20 s at 40 % of its capacity",
			Target: sturdy(Trouble{From: 10 * time.Second, To: 30 * time.Second, Down: true}),
			Rate:   200, Length: 2 * time.Minute, Healed: 30 * time.Second, Patience: time.Hour,
		},
		{
			Name: "long-outage", About: "the target is down for 5 minutes at 20 % of its capacity",
			Target: sturdy(Trouble{From: 10 * time.Second, To: 310 * time.Second, Down: true}),
			Rate:   100, Length: 8 * time.Minute, Healed: 310 * time.Second, Patience: time.Hour,
		},
		{
			Name: "brown-out", About: "for 1 minute 40 % of the requests fail and all take three times as long",
			Target: sturdy(Trouble{From: 10 * time.Second, To: 70 * time.Second, Failing: 0.4, Slow: 3}),
			Rate:   100, Length: 3 * time.Minute, Healed: 70 * time.Second, Patience: time.Hour,
		},
		{
			Name: "overload", About: "at 85 % of the capacity a burst of 10 s comes to 150 %; the queue is long, contention makes overload feed itself",
			Target: Target{Servers: 10, Service: 20 * time.Millisecond, Queue: 1500, Contention: 0.1, Timeout: 2 * time.Second},
			Rate:   425, Length: 5 * time.Minute, Burst: Burst{From: 10 * time.Second, To: 20 * time.Second, Rate: 750},
			Healed: 20 * time.Second, Patience: 7 * time.Minute,
		},
		{
			Name: "rate-limit", About: "for 2 minutes the target turns away all but 100 a second with a Retry-After of 5 s, at first 300 a second come",
			Target: sturdy(Trouble{To: 2 * time.Minute, PerSecond: 100, RetryAfter: 5 * time.Second}),
			Rate:   60, Length: 3 * time.Minute, Burst: Burst{From: 0, To: 10 * time.Second, Rate: 300},
			Healed: 2 * time.Minute, Patience: time.Hour,
		},
		{
			Name: "poisoned", About: "a fifth of the operations is of a type that always fails; the target is down for 10 s besides",
			Target: poisonedTarget(), PoisonedShare: 0.2,
			Rate: 200, Length: 2 * time.Minute, Healed: 40 * time.Second, Patience: 10 * time.Minute,
		},
		{
			Name: "flapping", About: "for 2 minutes the target is down 10 s, up 10 s, in turns",
			Target: sturdy(flaps(6)...),
			Rate:   150, Length: 4 * time.Minute, Healed: 120 * time.Second, Patience: time.Hour,
		},
		Backlog(100_000),
		Shedding(100_000),
	}
}

// Backlog returns the scenario of a target with a capacity of 500 a second that heals when n
// operations wait for it. Excess requests wait in a short queue, so that the target answers more
// slowly before it sheds.
func Backlog(n int) Scenario {
	target := sturdy()
	target.Queue = 10
	return backlog("backlog", "the target is down for 2 minutes while 100,000 operations fail; it has a short queue", target, n)
}

// Shedding returns the scenario of a target that accepts 500 requests a second, answers them in 5
// ms and sheds the rest without warning, and that heals when n operations wait for it.
func Shedding(n int) Scenario {
	target := Target{Servers: 50, Service: 5 * time.Millisecond, Sheds: 500, Timeout: 2 * time.Second}
	return backlog("shedding", "the same, but the target has no queue and sheds what is beyond 500 a second at once", target, n)
}

func backlog(name, about string, target Target, n int) Scenario {
	outage := 2 * time.Minute
	target.Plan = []Trouble{{To: outage, Down: true}}
	return Scenario{
		Name: name, About: about, Target: target,
		Rate: float64(n) / outage.Seconds(), Length: outage, Healed: outage, Patience: time.Hour,
	}
}

func poisonedTarget() Target {
	t := sturdy(Trouble{From: 30 * time.Second, To: 40 * time.Second, Down: true})
	t.Poisoned = poisoned
	return t
}

func flaps(n int) []Trouble {
	var plan []Trouble
	for i := range n {
		from := time.Duration(i) * 20 * time.Second
		plan = append(plan, Trouble{From: from, To: from + 10*time.Second, Down: true})
	}
	return plan
}
