package scheduler

import (
	"fmt"
	"testing"
	"time"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/scheduler/gate"
)

// limitedGates are gates whose leases come from a ledger of each key, whenever the
// test lets them.
type limitedGates struct {
	*Gates
	t       *testing.T
	policy  *Policy
	ledgers map[string]gate.Ledger
	wanted  []string
}

func newLimitedGates(t *testing.T, change func(*Policy)) *limitedGates {
	t.Helper()
	policy := Builtin().Resolve(Query{Service: "pay", Operation: "charge"})
	policy.EnableCircuitBreaker = true
	change(&policy)
	l := &limitedGates{t: t, policy: &policy, ledgers: make(map[string]gate.Ledger)}
	l.Gates = NewGates(breaker.NewGroup(breaker.Config{}), GatesConfig{Lease: func(key string) { l.wanted = append(l.wanted, key) }})
	return l
}

// serve renews or returns the leases that are wanted and those of other keys that
// need it, and returns how many.
func (l *limitedGates) serve(now time.Time, others ...string) (renewed, returned int) {
	l.t.Helper()
	wanted := l.wanted
	l.wanted = nil
	for _, key := range others {
		if need := l.LeaseNeed(key, now); need == LeaseRenewal || need == LeaseReturn {
			wanted = append(wanted, key)
		}
	}
	for _, key := range wanted {
		leaving := l.LeaseNeed(key, now) == LeaseReturn
		claim, s, ok := l.Claim(key)
		if !ok {
			l.t.Fatalf("key %s has nothing to claim", key)
		}
		claim.Instance, claim.Leaving = "a", leaving
		ledger, known := l.ledgers[key]
		if !known {
			ledger = gate.NewLedger()
		}
		var lease gate.Lease
		l.ledgers[key], lease = ledger.Renew(claim, s, now)
		if leaving {
			l.Returned(key, lease)
			returned++
			continue
		}
		lease.Until, lease.LeftUntil = now.Add(gate.LeaseTime), now.Add(time.Minute)
		l.Share(key, lease, now)
		renewed++
	}
	return renewed, returned
}

// pass lets an operation of the key through and ends it at once.
func (l *limitedGates) pass(key string, now time.Time) {
	l.t.Helper()
	l.want(l.ofKey(key), now)
	l.serve(now)
	service, operation, err := events.SplitKey(key)
	if err != nil {
		l.t.Fatal(err)
	}
	pass, shut, err := l.Enter(l.t.Context(), l.policy, &events.Operation{Service: service, Operation: operation}, now)
	if err != nil || shut != nil {
		l.t.Fatalf("entering the gate of %s: shut by %v, %v; want a pass", key, shut, err)
	}
	pass.Done(gate.Success, time.Millisecond, now)
}

func (l *limitedGates) ofKey(key string) *keyGate {
	k := l.of(l.policy, key)
	k.release()
	return k
}

func TestLeases_KeyUsedOnceNeedsOneLeaseAndOneReturn(t *testing.T) {
	l := newLimitedGates(t, func(p *Policy) { p.RetryBudgetPerMinute, p.MaxConcurrentRetries = 100, 10 })
	begin := time.Now()
	l.pass("pay:charge", begin)
	renewed, returned := 0, 0
	for after := gate.LeaseTime / 3; after < 20*time.Second; after += gate.LeaseTime / 3 {
		n, m := l.serve(begin.Add(after), "pay:charge")
		renewed, returned = renewed+n, returned+m
	}
	if renewed != 0 || returned != 1 {
		t.Errorf("after its only operation the key renewed %d leases and returned %d, want 0 and 1", renewed, returned)
	}
	if need := l.LeaseNeed("pay:charge", begin.Add(20*time.Second)); need != LeaseOver {
		t.Errorf("the need of a key that is not used is %d, want %d", need, LeaseOver)
	}
	ledger := l.ledgers["pay:charge"]
	_, other := ledger.Renew(gate.Claim{Instance: "b", Held: 1}, l.policy.Gate(), begin.Add(21*time.Second))
	if other.Budget != 99 {
		t.Errorf("another instance may let %d through, want 99: all but what was used", other.Budget)
	}
}

func TestLeases_KeyInUseIsRenewed(t *testing.T) {
	l := newLimitedGates(t, func(p *Policy) { p.MaxConcurrentRetries = 10 })
	now := time.Now()
	for range 30 {
		l.pass("pay:charge", now)
		now = now.Add(gate.LeaseTime / 10)
	}
	if need := l.LeaseNeed("pay:charge", now.Add(renewAfter)); need != LeaseRenewal {
		t.Errorf("the need of a key in use is %d, want %d", need, LeaseRenewal)
	}
}

func TestLeases_ManyHeldKeysNeedNone(t *testing.T) {
	l := newLimitedGates(t, func(p *Policy) { p.MaxConcurrentRetries = 10 })
	now := time.Now()
	for i := range 100 {
		key := fmt.Sprintf("pay:op%d", i)
		l.pass(key, now)
		l.SetHeld("pay", fmt.Sprintf("op%d", i), 5)
		if need := l.LeaseNeed(key, now.Add(10*time.Second)); need != LeaseOver {
			t.Errorf("the need of key %s, whose lanes nobody empties, is %d, want %d", key, need, LeaseOver)
		}
	}
}

func TestLeases_OperationThatComesDuringTheReturnGetsALease(t *testing.T) {
	l := newLimitedGates(t, func(p *Policy) { p.RetryBudgetPerMinute = 100 })
	now := time.Now()
	l.pass("pay:charge", now)
	now = now.Add(returnAfter)
	claim, s, _ := l.Claim("pay:charge")
	claim.Instance, claim.Leaving = "a", true
	ledger := l.ledgers["pay:charge"]
	after, lease := ledger.Renew(claim, s, now)
	l.ledgers["pay:charge"] = after
	l.want(l.ofKey("pay:charge"), now)
	l.Returned("pay:charge", lease)
	if len(l.wanted) != 1 {
		t.Fatalf("%d leases are wanted, want 1", len(l.wanted))
	}
	l.pass("pay:charge", now)
}
