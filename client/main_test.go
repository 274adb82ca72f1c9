package client_test

import (
	"testing"

	"github.com/rebound-mq/rebound/client"
	"github.com/rebound-mq/rebound/internal/testkit"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

func TestMain(m *testing.M) { testkit.Main(m, testkit.ProxyLeaks()...) }

// steady are policies with fixed delays.
const steady = `
default:
  maxAttempts: 4
  baseDelay: 100ms
  maxDelay: 10s
  backoffStrategy: exponential
  jitterType: none
  attemptTimeout: 2s
  enableAdaptiveBackoff: false
  enableCircuitBreaker: false
guarded:
  enableCircuitBreaker: true
  circuitBreakerThreshold: 2
  circuitBreakerTimeout: 10s
  halfOpenMaxRequests: 1
  halfOpenSuccesses: 1
budgeted:
  baseDelay: 1ms
  retryBudgetPerMinute: 3
narrow:
  maxConcurrentRetries: 1
  maxDelay: 300ms
learning:
  enableAdaptiveBackoff: true
hurried:
  maxElapsedTime: 150ms
`

func policySet(t testing.TB, yaml string) *policy.Set {
	t.Helper()
	set, err := policy.Parse("test.yaml", []byte(yaml))
	if err != nil {
		t.Fatalf("the test's policies are invalid: %v", err)
	}
	return set
}

// local returns a client without NATS.
func local(t testing.TB) *client.Client {
	t.Helper()
	c, err := client.New(t.Context(), client.Config{Policies: policySet(t, steady)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}
