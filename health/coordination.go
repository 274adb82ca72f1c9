package health

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/rebound-mq/rebound/events"
)

const (
	// InstanceLease is how long an instance counts after its last report, in the time that the
	// [Register] attends.
	InstanceLease = 3 * time.Second
	// mostAttention is how much of the time between two of its own reports an instance can say
	// to have attended: one report a second is due.
	mostAttention = 3 * time.Second / 2
	// MaxInstances bounds the instances that a [Register] keeps.
	MaxInstances = 256
	// leastDelay is the minimum coordinated delay: the time until all instances know of a change
	// of backpressure.
	leastDelay = time.Second
)

// Coordination describes the instances as one of them sees them (the original design's
// DistributedRetryCoordination).
type Coordination struct {
	// CoordinationKey is the prefix of the instances' subjects.
	CoordinationKey string `json:"coordinationKey"`
	TotalInstances  int    `json:"totalInstances"`
	// ActiveRetries is the number of attempts that all instances have in flight.
	ActiveRetries int `json:"activeRetries"`
	// GlobalBackpressure reports whether backpressure is on, and CoordinatedDelay for how long at
	// least, in milliseconds; see [CoordinatedDelay].
	GlobalBackpressure bool    `json:"globalBackpressure"`
	CoordinatedDelay   float64 `json:"coordinatedDelay"`

	// InstanceRetryLoad is the number of attempts that each instance has in flight, and
	// RecommendedDistribution the share of the due operations that it should take; see
	// [Distribution]. Both are by instance id.
	InstanceRetryLoad       map[string]int     `json:"instanceRetryLoad"`
	RecommendedDistribution map[string]float64 `json:"recommendedDistribution"`

	// GlobalSuccessRate and GlobalFailureRate, 0 to 1 with the sum 1, are computed from Samples,
	// the attempts of the last minute that count for their target's health. Without samples they
	// are 1 and 0.
	GlobalSuccessRate float64 `json:"globalSuccessRate"`
	GlobalFailureRate float64 `json:"globalFailureRate"`
	Samples           int     `json:"samples"`

	// VotingServices is the number of services with a vote on backpressure, and FailingServices
	// how many of them fail; see package gate.
	VotingServices  int `json:"votingServices"`
	FailingServices int `json:"failingServices"`
	// Services are the recent attempts of the services at all instances, in the order of their
	// hashes, at most [events.MaxServices].
	Services []events.ServiceAttempts `json:"-"`

	// Backpressure says why backpressure is on and since when.
	Backpressure events.Backpressure `json:"backpressure"`
	// InHand is the number of due operations that all instances have in hand.
	InHand int `json:"inHand"`
	// SystemLoad is the mean load average per core of the instances' hosts.
	SystemLoad float64 `json:"systemLoad"`
	// StoreDelayMs is the response time of NATS or Redis, in milliseconds, at the instance where
	// it is shortest, so that one slow instance does not affect all.
	StoreDelayMs float64 `json:"storeDelayMs"`
	// Instances are sorted by id.
	Instances []Instance `json:"instances"`
}

// Instance is the last report of an instance.
type Instance struct {
	events.InstanceReport
	events.Capacity
	// HeardMs is the age of the report, in milliseconds.
	HeardMs float64 `json:"heardMs"`
}

// ErrManyInstances means that a report was refused because [MaxInstances] are known already.
var ErrManyInstances = fmt.Errorf("more than %d instances report", MaxInstances)

// ErrOwnReport means that a report with this instance's own id came from outside.
var ErrOwnReport = errors.New("the report has this instance's own id")

// Register knows the instances from their reports. It forgets an instance that was not heard for
// [InstanceLease], but never this instance itself. It is not safe for concurrent use.
//
// The lease runs in the time that this instance attends, which only its own reports advance as
// they come back, each by 1.5 s at most. They take the same way as those of the others and arrive
// in order, so an instance that is starved of CPU, was frozen or has lost its connection does not
// take the silence for the end of the others.
type Register struct {
	key       string
	own       string
	instances map[string]heard
	attended  time.Duration // when its own report last came back
	echoed    time.Time     // and that by the clock
}

// heard is a report with the time of its arrival, by the clock and in the time that was attended.
type heard struct {
	report   events.InstanceReport
	at       time.Time
	attended time.Duration
}

// NewRegister returns a register under a coordination key that knows only this instance, from its
// report.
func NewRegister(key string, own events.InstanceReport, now time.Time) *Register {
	return &Register{key: key, own: own.ID, instances: map[string]heard{own.ID: {own, now, 0}}, echoed: now}
}

// Own records this instance's own report.
func (r *Register) Own(report events.InstanceReport, now time.Time) {
	report.ID = r.own
	r.instances[r.own] = heard{report, now, r.attended}
}

// Heard records another instance's report at now. news reports whether the instance was unknown.
// The error is [ErrManyInstances], or [ErrOwnReport] for this instance's own, which says that
// those of the others would have been heard, too.
func (r *Register) Heard(report events.InstanceReport, now time.Time) (news bool, err error) {
	if report.ID == r.own {
		r.attended, r.echoed = r.attention(now), now
		return false, ErrOwnReport
	}
	_, known := r.instances[report.ID]
	if !known && len(r.instances) >= MaxInstances {
		if r.expire(); len(r.instances) >= MaxInstances {
			return false, ErrManyInstances
		}
	}
	r.instances[report.ID] = heard{report, now, r.attention(now)}
	return !known, nil
}

// attention returns the time attended until now.
func (r *Register) attention(now time.Time) time.Duration {
	return r.attended + min(max(now.Sub(r.echoed), 0), mostAttention)
}

// Left forgets an instance that reports that it has stopped, and returns whether it was known.
func (r *Register) Left(id string) bool {
	_, known := r.instances[id]
	if id == r.own || !known {
		return false
	}
	delete(r.instances, id)
	return true
}

// expire forgets the instances whose lease has ended.
func (r *Register) expire() {
	maps.DeleteFunc(r.instances, func(id string, h heard) bool { return id != r.own && r.attended-h.attended >= InstanceLease })
}

// Leader returns the instance that acts for all: the one with the lowest id that is not joining.
// ok is false if there is none.
func (r *Register) Leader() (leader events.InstanceReport, ok bool) {
	r.expire()
	for id, h := range r.instances {
		if h.report.State != events.InstanceJoining && (!ok || id < leader.ID) {
			leader, ok = h.report, true
		}
	}
	return leader, ok
}

// LatestChange returns the latest change of backpressure that another instance knows of.
func (r *Register) LatestChange() (latest events.Backpressure) {
	for id, h := range r.instances {
		if b := h.report.Backpressure; id != r.own && b.Since.After(latest.Since) {
			latest = b
		}
	}
	return latest
}

// Len returns the number of known instances.
func (r *Register) Len() int { return len(r.instances) }

// View returns the instances known at now, with the backpressure in force, which can end in
// endsIn at the earliest.
func (r *Register) View(now time.Time, pressure events.Backpressure, endsIn time.Duration) Coordination {
	r.expire()
	c := Coordination{
		CoordinationKey: r.key, TotalInstances: len(r.instances), InstanceRetryLoad: make(map[string]int, len(r.instances)),
		GlobalBackpressure: pressure.On, Backpressure: pressure, GlobalSuccessRate: 1,
		CoordinatedDelay: events.InMilliseconds(CoordinatedDelay(pressure.On, endsIn)),
		StoreDelayMs:     math.Inf(1),
	}
	failed := 0
	var services []events.ServiceAttempts
	for id, h := range r.instances {
		services = append(services, h.report.Services...)
		c.Instances = append(c.Instances, Instance{h.report, h.report.Capacity, max(events.InMilliseconds(now.Sub(h.at)), 0)})
		c.InstanceRetryLoad[id] = h.report.InFlight
		c.ActiveRetries += h.report.InFlight
		c.InHand += h.report.InHand
		c.Samples += h.report.Succeeded + h.report.Failed
		failed += h.report.Failed
		c.SystemLoad += h.report.SystemLoad / float64(len(r.instances))
		c.StoreDelayMs = min(c.StoreDelayMs, h.report.StoreDelayMs)
	}
	if c.Samples > 0 {
		c.GlobalFailureRate = float64(failed) / float64(c.Samples)
		c.GlobalSuccessRate = 1 - c.GlobalFailureRate
	}
	slices.SortFunc(c.Instances, func(a, b Instance) int { return strings.Compare(a.ID, b.ID) })
	c.RecommendedDistribution = Distribution(c.Instances)
	c.Services = addUp(services)
	return c
}

// addUp adds up what the instances counted of each service. An instance leaves out only the
// services with the highest hashes, so of the first [events.MaxServices] nothing is missing.
func addUp(counts []events.ServiceAttempts) []events.ServiceAttempts {
	slices.SortFunc(counts, func(a, b events.ServiceAttempts) int { return cmp.Compare(a.Service, b.Service) })
	var sums []events.ServiceAttempts
	for _, c := range counts {
		if n := len(sums); n > 0 && sums[n-1].Service == c.Service {
			sums[n-1].Succeeded += c.Succeeded
			sums[n-1].Failed += c.Failed
		} else {
			sums = append(sums, c)
		}
	}
	return sums[:min(len(sums), events.MaxServices)]
}

// Distribution returns the share of the due operations that each instance should take, by id. The
// shares add up to 1. A share is proportional to the weight
//
//	1 / ((1 + o²) × (1 + (d / 250 ms)²))
//
// where o is the instance's overload and d its store delay. Compared with an instance that waits
// for nothing, one at the limit counts half, one at twice the limit a fifth, and one at half of it
// four fifths. A store delay of up to 100 ms, as occurs with a fully used store, has little effect.
func Distribution(instances []Instance) map[string]float64 {
	shares := make(map[string]float64, len(instances))
	total := 0.0
	for _, i := range instances {
		o, d := amount(i.Overload), amount(i.StoreDelayMs)/slowStoreMs
		shares[i.ID] = 1 / ((1 + o*o) * (1 + d*d))
		total += shares[i.ID]
	}
	for id := range shares {
		shares[id] /= total
	}
	return shares
}

// slowStoreMs is the store delay that halves the weight of an instance.
const slowStoreMs = 250.0

// amount clamps v between 0 and the maximum of a report; NaN becomes 0.
func amount(v float64) float64 {
	if !(v > 0) {
		return 0
	}
	return min(v, events.MaxInstanceFigure)
}

// A limited instance may exceed its share of the operations in hand by half, so that the limit
// never keeps it from taking its share, and may always have leastInHand.
const (
	shortShare  = 0.8
	limitSlack  = 1.5
	leastInHand = 64
)

// What lowers [Coordination.InHandLimit].
const (
	LimitedByOverload = "overload"
	LimitedByStore    = "store_slow"
)

// InHandLimit returns how many due operations the instance id may have in hand. If its share is
// below 0.8 of an even one, that is 1.5 times its share of what all have in hand now, but at
// least 64 and at most most, and by says what lowers its share the most. Otherwise it is most, so
// that the distribution costs nothing in steady health.
func (c *Coordination) InHandLimit(id string, most int) (limit int, by string) {
	share, ok := c.RecommendedDistribution[id]
	if !ok || share*float64(c.TotalInstances) >= shortShare {
		return most, ""
	}
	limit = max(leastInHand, int(math.Ceil(limitSlack*share*float64(c.InHand))))
	if limit >= most {
		return most, ""
	}
	for _, i := range c.Instances {
		if i.ID == id && amount(i.StoreDelayMs)/slowStoreMs > amount(i.Overload) {
			return limit, LimitedByStore
		}
	}
	return limit, LimitedByOverload
}

// CoordinatedDelay returns for how long at least all instances hold back: 0 while backpressure is
// off, and otherwise the time until it can end, but at least a second, the time until all
// instances know of the end.
func CoordinatedDelay(on bool, endsIn time.Duration) time.Duration {
	if !on {
		return 0
	}
	return max(endsIn, leastDelay)
}
