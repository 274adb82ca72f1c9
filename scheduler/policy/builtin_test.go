package policy

import (
	"bytes"
	"testing"
	"time"

	"github.com/rebound-mq/rebound/events"
)

func TestBuiltin_HasTheValuesOfTheOriginalDesign(t *testing.T) {
	want := func(service string, set func(p *Policy)) Policy {
		p := usual()
		p.EnableAdaptiveBackoff = false
		set(&p)
		return p
	}
	for service, want := range map[string]Policy{
		"session_manager": want("session_manager", func(p *Policy) {
			p.MaxAttempts, p.BaseDelay, p.MaxDelay = 3, time.Second, 30*time.Second
			p.BackoffStrategy, p.JitterType, p.EnableAdaptiveBackoff = Exponential, FullJitter, true
			p.EnableCircuitBreaker, p.CircuitBreakerThreshold, p.CircuitBreakerTimeout = true, 5, time.Minute
			p.HalfOpenMaxRequests, p.HalfOpenSuccesses = 3, 3
		}),
		"connection_pool": want("connection_pool", func(p *Policy) {
			p.MaxAttempts, p.BaseDelay, p.MaxDelay = 5, 500*time.Millisecond, 10*time.Second
			p.BackoffStrategy, p.JitterType, p.EnableResourceAwareRetry = Adaptive, EqualJitter, true
			p.MaxConcurrentRetries, p.RetryBudgetPerMinute = 20, 200
			p.EnableAdaptiveBackoff, p.EnableCircuitBreaker = true, true
		}),
		"campaign_orchestrator": want("campaign_orchestrator", func(p *Policy) {
			p.MaxAttempts, p.BaseDelay, p.MaxDelay = 3, 2*time.Second, time.Minute
			p.BackoffStrategy, p.JitterType = Exponential, DecorrelatedJitter
			p.RespectGlobalBackpressure, p.EnableCircuitBreaker = false, true
			p.CircuitBreakerThreshold, p.CircuitBreakerTimeout = 5, time.Minute
			p.HalfOpenMaxRequests, p.HalfOpenSuccesses = 3, 3
		}),
		"analytics": want("analytics", func(p *Policy) {
			p.EnableAdaptiveBackoff = true
			p.BaseDelay, p.MaxDelay, p.Priority = 5*time.Second, 10*time.Minute, events.Low
		}),
		"content_safety": want("content_safety", func(p *Policy) {
			p.MaxAttempts, p.BaseDelay, p.MaxDelay, p.JitterType, p.Priority = 4, 500*time.Millisecond, 5*time.Second, EqualJitter, events.High
			p.MaxElapsedTime, p.EnableCircuitBreaker = time.Minute, false
		}),
	} {
		got := Builtin().Resolve(Query{Service: service, Operation: "any"})
		for i, k := range keys {
			if i != keyRules && k.text(&got) != k.text(&want) {
				t.Errorf("%s has %s %s, want %s", service, k.Name, k.text(&got), k.text(&want))
			}
		}
	}
}

func TestBuiltin_DefaultSetsEveryKeyThatIsNoList(t *testing.T) {
	l := Builtin().layers[scope{}]
	for i, k := range keys {
		if k.read != nil && !l.keys.has(i) {
			t.Errorf("the built-in default does not set %s", k.Name)
		}
	}
}

func TestBuiltin_IsServedAsItsFile(t *testing.T) {
	src := Builtin().Source()
	if !bytes.Equal(src, builtin) {
		t.Errorf("Source() has %d bytes, want the %d of builtin.yaml", len(src), len(builtin))
	}
	src[0] = 'x'
	if bytes.Equal(src, Builtin().Source()) {
		t.Error("a change of what Source() returned changed the set's own")
	}
	if _, err := Parse("copy.yaml", builtin); err != nil {
		t.Errorf("the built-in policies are no policy file of a user's: %v", err)
	}
}

func TestBuiltin_ExpiredSessionIsRetryableOnceForTheSessionManager(t *testing.T) {
	p := Builtin().Resolve(Query{Service: "session_manager", Operation: "execute_action"})
	for name, f := range map[string]Failure{
		"by its code":    {Code: "SESSION_EXPIRED", Message: "please log in"},
		"by its message": {Code: "401", Message: "The session of account 7 has expired"},
	} {
		first := p.Decide(Input{Attempt: 1, Now: now, Service: "session_manager", Failure: f}, fixed(0.5))
		if !first.Retry || !first.Limited || first.Rule != "expired session" || first.Unhealthy {
			t.Errorf("%s: the first decision is %+v, want a retry by the limited rule and no word on health", name, first)
		}
		second := p.Decide(Input{Attempt: 2, Now: now, Service: "session_manager", Failure: f, Seen: map[string]int{"expired session": 1}}, fixed(0.5))
		if second.Retry || second.Reason != events.ReasonNotRetryable || second.Rule != "expired session" {
			t.Errorf("%s: the second decision is %+v, want not_retryable", name, second)
		}
		other := usual()
		if class, rule := other.Classify("billing", Failure{Code: "SESSION_EXPIRED"}, nil); class != NotRetryable {
			t.Errorf("elsewhere an expired session is %s by %s, want not_retryable", class, rule)
		}
	}
}
