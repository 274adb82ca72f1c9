package health

import (
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
	// InstanceLease is for how long an instance counts after it was heard last.
	InstanceLease = 3 * time.Second
	// MaxInstances is how many instances a [Register] keeps at most.
	MaxInstances = 256
	// leastDelay is the least coordinated delay: how long it takes until a change
	// of backpressure is known everywhere.
	leastDelay = time.Second
)

// Coordination is the instances as one of them sees them (the original design's
// DistributedRetryCoordination).
type Coordination struct {
	// CoordinationKey is what the instances have in common: the prefix of their
	// subjects.
	CoordinationKey string `json:"coordinationKey"`
	TotalInstances  int    `json:"totalInstances"`
	// ActiveRetries is how many attempts all instances have in flight.
	ActiveRetries int `json:"activeRetries"`
	// GlobalBackpressure is whether backpressure is on, and CoordinatedDelay for how
	// long at least, in milliseconds, see [CoordinatedDelay].
	GlobalBackpressure bool    `json:"globalBackpressure"`
	CoordinatedDelay   float64 `json:"coordinatedDelay"`

	// InstanceRetryLoad is how many attempts each instance has in flight, and
	// RecommendedDistribution the share of the due operations that it should take,
	// see [Distribution]. Both are by id.
	InstanceRetryLoad       map[string]int     `json:"instanceRetryLoad"`
	RecommendedDistribution map[string]float64 `json:"recommendedDistribution"`

	// GlobalSuccessRate and GlobalFailureRate, from 0 to 1 and together 1, are those
	// of the last minute's attempts that speak of their target's health, of which
	// there were Samples. Without any they are 1 and 0.
	GlobalSuccessRate float64 `json:"globalSuccessRate"`
	GlobalFailureRate float64 `json:"globalFailureRate"`
	Samples           int     `json:"samples"`

	// Backpressure says why backpressure is on and since when.
	Backpressure events.Backpressure `json:"backpressure"`
	// InHand is how many due operations all instances have in hand.
	InHand int `json:"inHand"`
	// SystemLoad is the mean load average per core of the instances' hosts.
	SystemLoad float64 `json:"systemLoad"`
	// StoreDelayMs is how long NATS or Redis takes to answer, in milliseconds, at
	// the instance where it takes least: one slow instance is not everybody's
	// problem.
	StoreDelayMs float64 `json:"storeDelayMs"`
	// Instances are in the order of their ids.
	Instances []Instance `json:"instances"`
}

// Instance is what is known of one instance.
type Instance struct {
	events.InstanceReport
	// HeardMs is how long ago it was heard last, in milliseconds.
	HeardMs float64 `json:"heardMs"`
}

// ErrManyInstances says that the report of an instance is refused, because as many
// are known as may be.
var ErrManyInstances = fmt.Errorf("more than %d instances report", MaxInstances)

// ErrOwnReport says that the report of this very instance came from outside.
var ErrOwnReport = errors.New("the report bears this instance's own id")

// Register knows the instances by what they report of themselves. One of which
// nothing was heard for [InstanceLease] is forgotten; this instance itself never
// is. It belongs to one goroutine at a time.
type Register struct {
	key       string
	own       string
	instances map[string]heard
}

// heard is a report and when it came.
type heard struct {
	report events.InstanceReport
	at     time.Time
}

// NewRegister returns a register of the instances under a coordination key that
// knows just this one, by its report.
func NewRegister(key string, own events.InstanceReport, now time.Time) *Register {
	return &Register{key: key, own: own.ID, instances: map[string]heard{own.ID: {own, now}}}
}

// Own takes over this instance's own report.
func (r *Register) Own(report events.InstanceReport, now time.Time) {
	report.ID = r.own
	r.instances[r.own] = heard{report, now}
}

// Heard takes over what another instance reported, at now. News is whether it was
// not known before. The error is [ErrManyInstances], or [ErrOwnReport].
func (r *Register) Heard(report events.InstanceReport, now time.Time) (news bool, err error) {
	if report.ID == r.own {
		return false, ErrOwnReport
	}
	_, known := r.instances[report.ID]
	if !known && len(r.instances) >= MaxInstances {
		if r.expire(now); len(r.instances) >= MaxInstances {
			return false, ErrManyInstances
		}
	}
	r.instances[report.ID] = heard{report, now}
	return !known, nil
}

// Left forgets an instance that says that it has stopped, and returns whether it
// was known.
func (r *Register) Left(id string) bool {
	_, known := r.instances[id]
	if id == r.own || !known {
		return false
	}
	delete(r.instances, id)
	return true
}

// RenewAll renews all leases at now. It is for an instance that can hear nobody: the
// silence is not the others'.
func (r *Register) RenewAll(now time.Time) {
	for id, h := range r.instances {
		h.at = now
		r.instances[id] = h
	}
}

// expire forgets the instances whose lease is over.
func (r *Register) expire(now time.Time) {
	maps.DeleteFunc(r.instances, func(id string, h heard) bool { return id != r.own && now.Sub(h.at) >= InstanceLease })
}

// Leader returns the instance that acts for all at now: the one with the lowest id that
// is not joining. ok is false when there is none.
func (r *Register) Leader(now time.Time) (leader events.InstanceReport, ok bool) {
	r.expire(now)
	for id, h := range r.instances {
		if h.report.State != events.InstanceJoining && (!ok || id < leader.ID) {
			leader, ok = h.report, true
		}
	}
	return leader, ok
}

// Len returns how many instances are known.
func (r *Register) Len() int { return len(r.instances) }

// View returns the instances as they are known at now, with the backpressure that
// is in force and that can end in endsIn at the earliest.
func (r *Register) View(now time.Time, pressure events.Backpressure, endsIn time.Duration) Coordination {
	r.expire(now)
	c := Coordination{
		CoordinationKey: r.key, TotalInstances: len(r.instances), InstanceRetryLoad: make(map[string]int, len(r.instances)),
		GlobalBackpressure: pressure.On, Backpressure: pressure, GlobalSuccessRate: 1,
		CoordinatedDelay: events.InMilliseconds(CoordinatedDelay(pressure.On, endsIn)),
		StoreDelayMs:     math.Inf(1),
	}
	failed := 0
	for id, h := range r.instances {
		c.Instances = append(c.Instances, Instance{h.report, max(events.InMilliseconds(now.Sub(h.at)), 0)})
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
	return c
}

// Distribution returns by id the share of the due operations that each instance
// should take; together they are 1. A share is in proportion to the weight
//
//	1 / ((1 + l²) × (1 + (d / 250 ms)²))
//
// where l is the host's load average per core and d is the store delay of the
// instance. So a host whose cores are all busy counts half as much as an idle one,
// one with a queue of as many again a fifth, and one that is half busy four fifths.
// A store delay of up to 100 ms, as it comes about where a store is used to the
// full, counts for little.
func Distribution(instances []Instance) map[string]float64 {
	const slow = 250.0
	shares := make(map[string]float64, len(instances))
	total := 0.0
	for _, i := range instances {
		l, d := amount(i.SystemLoad), amount(i.StoreDelayMs)/slow
		shares[i.ID] = 1 / ((1 + l*l) * (1 + d*d))
		total += shares[i.ID]
	}
	for id := range shares {
		shares[id] /= total
	}
	return shares
}

// amount keeps v between 0 and what a report may say, and makes what is no number
// 0.
func amount(v float64) float64 {
	if !(v > 0) {
		return 0
	}
	return min(v, events.MaxInstanceFigure)
}

// A limited instance may have half as many operations in hand again as its share
// is, so that it is never its limit that keeps it from taking what it should, and
// always as many as leastInHand.
const (
	shortShare  = 0.8
	limitSlack  = 1.5
	leastInHand = 64
)

// InHandLimit returns how many due operations the instance id may have in hand, at
// most most. That is its share of what all have in hand now, times 1.5 and at least
// 64, when the share is below 0.8 of an even one. Otherwise it is most: in steady
// health the distribution costs nothing.
func (c *Coordination) InHandLimit(id string, most int) int {
	share, ok := c.RecommendedDistribution[id]
	if !ok || share*float64(c.TotalInstances) >= shortShare {
		return most
	}
	return min(most, max(leastInHand, int(math.Ceil(limitSlack*share*float64(c.InHand)))))
}

// CoordinatedDelay is how long all instances hold back at least: 0 while
// backpressure is off, and while it is on the time until it can end at the
// earliest, but not less than a second, for as long as it takes until everybody
// knows of the end.
func CoordinatedDelay(on bool, endsIn time.Duration) time.Duration {
	if !on {
		return 0
	}
	return max(endsIn, leastDelay)
}
