package chaos

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/chaos/proof"
)

// Kind is a kind of history.
type Kind struct {
	Name, Purpose string
	// Rate is the number of submissions a second, Keys the number of keys.
	Rate, Keys int
	// Publish sends all operations, or with Mixed every other one, to workers of a stream instead
	// of a micro service.
	Publish, Mixed bool
	// Policy is the policy file, Limits what it promises for each key.
	Policy string
	Limits proof.Limits
	// Fail is the percentage of attempts that fail at the target.
	Fail int
	// Lease is the lease of the instances, 0 for the default.
	Lease time.Duration
	// Calm kinds have no faults but the target's.
	Calm bool
	// Least is the minimum duration of faults, and Producing how long operations are submitted if
	// that is longer than configured; 0 is no requirement.
	Least, Producing time.Duration
	// Settle is what the policy adds to the time until everything has drained.
	Settle time.Duration
	// Soak measures the peak rate first, continues at a share of it, and samples the instances.
	// Such a kind is run only by name.
	Soak bool
	// Redis, Wires, Disk and Clock add these parts to the history.
	Redis, Wires, Disk, Clock bool
	// Faults are chosen from at random, one at a time, after a pause of up to Rest.
	Faults []string
	Rest   time.Duration
	// Times bounds the number of faults, 0 for no bound.
	Times int
}

// The policies. None gives up because of the faults, during which attempts fail.
const (
	plainPolicy = `
default:
  maxAttempts: 1000
  baseDelay: 1s
  maxDelay: 4s
  backoffStrategy: exponential
  jitterType: full
  attemptTimeout: 3s
  enableCircuitBreaker: false
  respectGlobalBackpressure: false
`
	breakerPolicy = `
default:
  maxAttempts: 1000
  baseDelay: 1s
  maxDelay: 4s
  backoffStrategy: exponential
  jitterType: full
  attemptTimeout: 3s
  respectGlobalBackpressure: false
  enableCircuitBreaker: true
  circuitBreakerThreshold: 5
  circuitBreakerTimeout: 1s
  halfOpenMaxRequests: 2
  halfOpenSuccesses: 2
`
	// The target is away for so long that operations would not outlive it if that were an attempt.
	absentPolicy = `
default:
  maxAttempts: 12
  baseDelay: 200ms
  maxDelay: 400ms
  backoffStrategy: exponential
  jitterType: full
  attemptTimeout: 3s
  respectGlobalBackpressure: false
`
	limitsPolicy = breakerPolicy + `
  maxConcurrentRetries: 8
  retryBudgetPerMinute: 2400
`
)

var (
	plain    = proof.Limits{MaxAttempts: 1000, Timeout: 3 * time.Second}
	reaching = proof.Limits{MaxAttempts: 12, Timeout: 3 * time.Second, Breaker: true, Reached: true}
	breaking = proof.Limits{MaxAttempts: 1000, Timeout: 3 * time.Second, Breaker: true, Probes: 2}
	limiting = proof.Limits{MaxAttempts: 1000, Timeout: 3 * time.Second, Breaker: true, Probes: 2, Concurrent: 8, Budget: 2400}
	// alone and storeless are the limits that remain while the store of breakers and limits comes
	// and goes: each instance may go on alone with its own probes, and an empty store has
	// forgotten what was spent.
	alone     = proof.Limits{MaxAttempts: 1000, Timeout: 3 * time.Second, Breaker: true, Probes: 2 * instanceCount}
	storeless = proof.Limits{MaxAttempts: 1000, Timeout: 3 * time.Second, Breaker: true, Probes: 2 * instanceCount, Concurrent: 8}
)

const (
	// The number of nodes of the cluster, and of instances.
	nodeCount, instanceCount = 3, 3

	shortLease = 2 * time.Second
	calmRate   = 150
)

var (
	leaderFaults   = []string{"step-stream", "step-stream", "step-consumer", "step-meta", "node-term", "node-kill", "late-follower"}
	instanceFaults = []string{"instance-kill", "instance-kill", "instance-term", "instance-blink", "instance-freeze", "rolling"}
	breakerFaults  = []string{"breaker-trip", "breaker-trip", "breaker-hold", "breaker-reset"}
	wireFaults     = []string{"wire-cut", "wire-cut", "wire-slow", "route-cut", "route-slow", "node-apart"}
	redisFaults    = []string{"redis-flush", "redis-restart", "redis-halt", "redis-read-only"}
	removeFaults   = []string{"remove-consumer", "remove-lanes", "remove-breakers", "remove-ledgers"}
	pauseFaults    = []string{"pause", "pause", "pause-for", "resume", "resume"}
	targetFaults   = []string{"target-down", "target-slow", "target-dying", "target-absent", "policy-apply", "replay"}
)

var kinds = []Kind{
	{Name: "calm-request", Purpose: "no fault, many keys, requests", Calm: true, Rate: calmRate, Keys: 200, Policy: plainPolicy, Limits: plain, Fail: 30, Lease: shortLease},
	{Name: "calm-publish", Purpose: "no fault, many keys, a stream's workers", Calm: true, Publish: true, Rate: calmRate, Keys: 200, Policy: plainPolicy, Limits: plain, Fail: 30, Lease: shortLease},
	{Name: "calm-one-key", Purpose: "no fault, one key, requests and publishes", Calm: true, Publish: true, Mixed: true, Rate: calmRate, Keys: 1, Policy: plainPolicy, Limits: plain, Fail: 30},
	{
		Name: "calm-limits", Purpose: "no fault, lanes and limits, target failing now and then", Calm: true, Rate: calmRate, Keys: 4,
		Policy: limitsPolicy, Limits: limiting, Fail: 5, Lease: shortLease, Faults: []string{"target-down"}, Rest: 8 * time.Second, Settle: time.Minute,
	},
	{Name: "leaders-request", Purpose: "leaders step down, nodes stop and come back, requests", Rate: 60, Keys: 20, Policy: plainPolicy, Limits: plain, Fail: 30, Lease: shortLease, Faults: leaderFaults, Rest: 1500 * time.Millisecond},
	{Name: "leaders-publish", Purpose: "the same with a stream's workers", Publish: true, Rate: 60, Keys: 20, Policy: plainPolicy, Limits: plain, Fail: 30, Faults: leaderFaults, Rest: 1500 * time.Millisecond},
	{
		Name: "breakers", Purpose: "an operator trips, holds and resets breakers", Rate: 120, Keys: 3,
		Policy: breakerPolicy, Limits: breaking, Fail: 4, Lease: shortLease, Faults: breakerFaults, Rest: 1500 * time.Millisecond, Settle: 30 * time.Second,
	},
	{Name: "instances", Purpose: "instances killed, halted, stopped, replaced", Mixed: true, Publish: true, Rate: 60, Keys: 20, Policy: plainPolicy, Limits: plain, Fail: 30, Lease: shortLease, Faults: instanceFaults, Rest: time.Second},
	{
		Name: "frozen", Purpose: "an instance halted for longer than the dedup window, lease 2 s", Rate: 20, Keys: 5, Policy: plainPolicy, Limits: plain, Fail: 30, Lease: shortLease,
		Least: 145 * time.Second, Producing: 140 * time.Second, Faults: []string{"instance-frozen"}, Times: 1, Rest: 5 * time.Second,
	},
	{
		Name: "frozen-long-lease", Purpose: "the same with a lease of 30 s", Rate: 20, Keys: 5, Policy: plainPolicy, Limits: plain, Fail: 30,
		Least: 145 * time.Second, Producing: 140 * time.Second, Faults: []string{"instance-frozen"}, Times: 1, Rest: 5 * time.Second, Settle: 30 * time.Second,
	},
	{Name: "wires", Purpose: "connections cut and slowed", Wires: true, Mixed: true, Publish: true, Rate: 60, Keys: 20, Policy: plainPolicy, Limits: plain, Fail: 30, Lease: shortLease, Faults: wireFaults, Rest: time.Second, Settle: 30 * time.Second},
	{
		Name: "redis", Purpose: "Redis flushed, empty, halted, read-only", Redis: true, Rate: 80, Keys: 4,
		Policy: limitsPolicy, Limits: storeless, Fail: 10, Lease: shortLease, Faults: append([]string{"target-down"}, redisFaults...), Rest: 1500 * time.Millisecond, Settle: time.Minute,
	},
	{
		Name: "removed", Purpose: "consumers and buckets removed", Rate: 60, Keys: 4,
		Policy: limitsPolicy, Limits: storeless, Fail: 10, Lease: shortLease, Faults: append([]string{"target-down"}, removeFaults...), Rest: 2 * time.Second, Settle: time.Minute,
	},
	{Name: "disk", Purpose: "the disk of one node is full", Disk: true, Rate: 60, Keys: 20, Policy: plainPolicy, Limits: plain, Fail: 30, Lease: shortLease, Faults: []string{"disk-full"}, Rest: 3 * time.Second},
	{Name: "clock", Purpose: "the clock of one instance is wrong", Clock: true, Rate: 60, Keys: 20, Policy: plainPolicy, Limits: plain, Fail: 30, Lease: shortLease, Faults: []string{"clock-step"}, Rest: 4 * time.Second},
	{
		Name: "target", Purpose: "the target down, slow, dying, absent; an operator at work", Mixed: true, Publish: true, Rate: 60, Keys: 4,
		Policy: breakerPolicy, Limits: breaking, Fail: 20, Lease: shortLease, Faults: targetFaults, Rest: 1500 * time.Millisecond, Settle: time.Minute,
	},
	{
		Name: "pause", Purpose: "an operator pauses and resumes keys and the service", Mixed: true, Publish: true, Rate: 60, Keys: 5,
		Policy: plainPolicy, Limits: plain, Fail: 30, Lease: shortLease, Faults: slices.Concat(pauseFaults, pauseFaults, []string{"step-stream", "instance-kill"}),
		Rest: 1200 * time.Millisecond, Settle: 30 * time.Second,
	},
	{
		Name: "absent", Purpose: "the target goes away and comes back", Rate: 60, Keys: 5, Policy: absentPolicy, Limits: reaching, Fail: 20, Lease: shortLease,
		Faults: []string{"target-away", "target-absent", "target-absent", "instance-kill", "instance-term"}, Rest: 1500 * time.Millisecond, Settle: 30 * time.Second,
	},
	{
		Name: "mixed", Purpose: "something of everything", Wires: true, Redis: true, Mixed: true, Publish: true, Rate: 60, Keys: 10,
		Policy: limitsPolicy, Limits: storeless, Fail: 20, Lease: shortLease, Rest: time.Second, Settle: time.Minute,
		Faults: slices.Concat(leaderFaults, instanceFaults, breakerFaults, wireFaults, redisFaults, targetFaults),
	},
	{
		Name: "soak", Purpose: "long, at four fifths of the peak, with faults", Soak: true, Mixed: true, Publish: true, Rate: 1, Keys: 50,
		Policy: breakerPolicy, Limits: alone, Fail: 10, Rest: 30 * time.Second, Settle: 2 * time.Minute,
		Faults: slices.Concat(leaderFaults, breakerFaults[:2], targetFaults[:3], []string{"instance-blink", "instance-freeze"}),
	},
}

// Kinds returns the kinds whose names begin with one of the words, which are separated by commas;
// "all" or no word chooses all but the soaks.
func Kinds(words string) ([]*Kind, error) {
	if words == "" {
		words = "all"
	}
	var chosen []*Kind
	for word := range strings.SplitSeq(words, ",") {
		n := len(chosen)
		for i := range kinds {
			k := &kinds[i]
			if (word == "all" && !k.Soak || k.Name == word || strings.HasPrefix(k.Name, word+"-")) && !slices.Contains(chosen, k) {
				chosen = append(chosen, k)
			}
		}
		if len(chosen) == n {
			return nil, fmt.Errorf("no kind of history is called %q", word)
		}
	}
	return chosen, nil
}

// published reports whether the i-th operation goes to a stream. The choice is independent of the
// key, so that every key has both.
func (k *Kind) published(i int) bool { return k.Publish && (!k.Mixed || i/k.Keys%2 == 0) }

// limits returns the policy's promises by key.
func (k *Kind) limits() map[string]proof.Limits {
	all := make(map[string]proof.Limits, k.Keys)
	for i := range k.Keys {
		all[events.Key(service, fmt.Sprintf("op%d", i))] = k.Limits
	}
	return all
}

// service is the service of every key; operation types are op0, op1 and so on.
const service = "load"
