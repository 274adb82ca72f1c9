package scheduler

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/scheduler/gate"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

// limitedGates are gates whose leases come from a ledger of each key when the test
// calls serve.
type limitedGates struct {
	*Gates
	t       *testing.T
	policy  *policy.Policy
	ledgers map[string]gate.Ledger
	wanted  []string
}

func newLimitedGates(t *testing.T, change func(*policy.Policy)) *limitedGates {
	t.Helper()
	policy := policy.Builtin().Resolve(policy.Query{Service: "pay", Operation: "charge"})
	policy.EnableCircuitBreaker = true
	change(&policy)
	l := &limitedGates{t: t, policy: &policy, ledgers: make(map[string]gate.Ledger)}
	l.Gates = NewGates(breaker.NewGroup(breaker.Config{}), GatesConfig{Lease: func(key string) { l.wanted = append(l.wanted, key) }})
	return l
}

// serve renews or returns the requested leases and those of other keys that need it,
// and returns how many.
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
		claim, s, ok := l.Claim(key, now)
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
	pass, shut, err := l.Enter(l.t.Context(), l.policy, &events.Operation{Service: service, Operation: operation}, "target", now)
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
	l := newLimitedGates(t, func(p *policy.Policy) { p.RetryBudgetPerMinute, p.MaxConcurrentRetries = 100, 10 })
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
	_, other := ledger.Renew(gate.Claim{Instance: "b", Waiting: 1}, l.policy.Gate(), begin.Add(21*time.Second))
	if other.Budget+other.Left != 99 {
		t.Errorf("another instance may let %d through and %d are left, want 99 together: all but what was used", other.Budget, other.Left)
	}
}

func TestLeases_KeyInUseIsRenewed(t *testing.T) {
	l := newLimitedGates(t, func(p *policy.Policy) { p.MaxConcurrentRetries = 10 })
	now := time.Now()
	for range 30 {
		l.pass("pay:charge", now)
		now = now.Add(gate.LeaseTime / 10)
	}
	if need := l.LeaseNeed("pay:charge", now.Add(renewAfter)); need != LeaseRenewal {
		t.Errorf("the need of a key in use is %d, want %d", need, LeaseRenewal)
	}
}

// slowStore serves the requested leases of one key as the service does, from a slow
// store.
type slowStore struct {
	*Gates
	key      string
	wanted   chan struct{}
	takes    time.Duration
	ledger   gate.Ledger
	renewals int
	gone     atomic.Bool // it does not answer
}

func newSlowStore(key string, takes time.Duration) *slowStore {
	s := &slowStore{key: key, takes: takes, wanted: make(chan struct{}, 1), ledger: gate.NewLedger()}
	s.Gates = NewGates(breaker.NewGroup(breaker.Config{}), GatesConfig{Lease: func(string) {
		select {
		case s.wanted <- struct{}{}:
		default:
		}
	}})
	return s
}

func (s *slowStore) run(ctx context.Context) {
	tick := time.NewTicker(gate.LeaseTime / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wanted:
		case <-tick.C:
			if s.LeaseNeed(s.key, time.Now()) != LeaseRenewal {
				continue
			}
		}
		claim, settings, ok := s.Claim(s.key, time.Now())
		if !ok {
			continue
		}
		claim.Instance = "a"
		asked := time.Now()
		if s.gone.Load() {
			time.Sleep(gate.LeaseTime / 2)
			s.Detached(time.Now())
			continue
		}
		time.Sleep(s.takes)
		var lease gate.Lease
		s.ledger, lease = s.ledger.Renew(claim, settings, time.Now())
		lease.Until, lease.LeftUntil = asked.Add(gate.LeaseTime), asked.Add(time.Minute)
		s.Share(s.key, lease, time.Now())
		s.renewals++
	}
}

// TestLeases_BigBudgetSlowsNoKeyThatGetsBusy sends 5,000 operations a second to an
// unused key for a second, and twice as many in the next.
func TestLeases_BigBudgetSlowsNoKeyThatGetsBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		policy := policy.Builtin().Resolve(policy.Query{Service: "pay", Operation: "charge"})
		policy.RetryBudgetPerMinute = 10_000_000
		s := newSlowStore("pay:charge", 5*time.Millisecond)
		ctx, cancel := context.WithCancel(t.Context())
		go s.run(ctx)
		var shut, longest atomic.Int64
		var operations sync.WaitGroup
		for i := range 15_000 {
			operations.Go(func() {
				began := time.Now()
				pass, s, err := s.Enter(t.Context(), &policy, &events.Operation{Service: "pay", Operation: "charge"}, "target", began)
				if err != nil || s != nil {
					shut.Add(1)
					return
				}
				took := int64(time.Since(began))
				for most := longest.Load(); took > most && !longest.CompareAndSwap(most, took); most = longest.Load() {
				}
				time.Sleep(20 * time.Millisecond)
				pass.Done(gate.Success, 20*time.Millisecond, time.Now())
			})
			pause := 200 * time.Microsecond
			if i > 5000 {
				pause /= 2
			}
			time.Sleep(pause)
		}
		operations.Wait()
		cancel()
		synctest.Wait()
		t.Logf("the longest wait was %v, with %d renewals", time.Duration(longest.Load()), s.renewals)
		if n, most := shut.Load(), time.Duration(longest.Load()); n > 0 || most > 25*time.Millisecond {
			t.Errorf("%d operations found the gate shut and the longest wait was %v, want none, and at most a few times what the store takes", n, most)
		}
		// Three a second, and a few more while the budget grows.
		if s.renewals > 12 {
			t.Errorf("the lease was renewed %d times in 2 seconds, want 12 at most", s.renewals)
		}
	})
}

// TestLeases_SpentBudgetOfAStoreThatIsGoneHoldsSoon loses the store when another
// instance has spent a budget: nobody knows when a lease may come.
func TestLeases_SpentBudgetOfAStoreThatIsGoneHoldsSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		policy := policy.Builtin().Resolve(policy.Query{Service: "pay", Operation: "charge"})
		policy.RetryBudgetPerMinute = 10
		s := newSlowStore("pay:charge", time.Millisecond)
		s.SetInstances(2)
		s.ledger, _ = s.ledger.Renew(gate.Claim{Instance: "b", Waiting: 10}, policy.Gate(), time.Now())
		ctx, cancel := context.WithCancel(t.Context())
		defer func() {
			cancel()
			time.Sleep(gate.LeaseTime)
		}()
		go s.run(ctx)
		held := func(within time.Duration) {
			t.Helper()
			began := time.Now()
			_, shut, err := s.Enter(t.Context(), &policy, &events.Operation{Service: "pay", Operation: "charge"}, "target", began)
			if err != nil || shut == nil || shut.Cause != gate.CauseBudgetShare {
				t.Fatalf("entering: shut by %+v, %v; want it shut by %s", shut, err, gate.CauseBudgetShare)
			}
			if took := time.Since(began); took > within {
				t.Errorf("an operation is held after %v, want %v at most", took, within)
			}
		}
		held(time.Second)
		s.gone.Store(true)
		// Until it is out of reach for long the store may come back.
		held(detachedAfter + 3*gate.LeaseTime)
		for range 20 {
			held(time.Second)
		}
		s.gone.Store(false)
		// What the other has spent comes back to the budget after a minute.
		time.Sleep(65 * time.Second)
		pass, shut, err := s.Enter(t.Context(), &policy, &events.Operation{Service: "pay", Operation: "charge"}, "target", time.Now())
		if err != nil || shut != nil {
			t.Fatalf("entering with the store back: shut by %+v, %v; want a pass", shut, err)
		}
		pass.Done(gate.Success, time.Millisecond, time.Now())
	})
}

func TestLeases_ManyHeldKeysNeedNone(t *testing.T) {
	l := newLimitedGates(t, func(p *policy.Policy) { p.MaxConcurrentRetries = 10 })
	now := time.Now()
	for i := range 100 {
		key := fmt.Sprintf("pay:op%d", i)
		l.pass(key, now)
		l.SetHeld("pay", fmt.Sprintf("op%d", i), gate.Lengths{5}, now)
		if need := l.LeaseNeed(key, now.Add(10*time.Second)); need != LeaseOver {
			t.Errorf("the need of key %s, whose lanes nobody empties, is %d, want %d", key, need, LeaseOver)
		}
	}
}

func TestLeases_OperationThatComesDuringTheReturnGetsALease(t *testing.T) {
	l := newLimitedGates(t, func(p *policy.Policy) { p.RetryBudgetPerMinute = 100 })
	now := time.Now()
	l.pass("pay:charge", now)
	now = now.Add(returnAfter)
	claim, s, _ := l.Claim("pay:charge", now)
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
