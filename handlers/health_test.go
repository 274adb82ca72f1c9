package handlers_test

import (
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/health"
	"github.com/rebound-mq/rebound/internal/testkit"
	"github.com/rebound-mq/rebound/scheduler/policy"
	"github.com/rebound-mq/rebound/schemas"
)

// report publishes a health report byte for byte.
func (r *rig) report(subject, data string) {
	r.t.Helper()
	if err := r.nc.Publish(subject, []byte(data)); err != nil {
		r.t.Fatal(err)
	}
}

// health asks for the health of one service; ok is false when nothing is known.
func (r *rig) health(service string) (m health.Metrics, ok bool) {
	r.t.Helper()
	var answer schemas.Health
	if code, text := r.request("rebound.health", nil, schemas.HealthQuery{Service: service}, &answer); code != "" {
		r.t.Fatalf("asking for the health of %s: %s %s", service, code, text)
	}
	if len(answer.Services) == 0 {
		return m, false
	}
	return answer.Services[0], true
}

// scheduled waits until there are n decisions of a service and returns them.
func (r *rig) scheduled(service string, n int) []events.Scheduled {
	r.t.Helper()
	subject := "retry.event.retryScheduled." + service + ".>"
	testkit.Eventually(r.t, 10*time.Second, "decisions of "+service, func() bool { return r.count("RETRY_OUTCOMES", subject) >= n })
	var out []events.Scheduled
	for _, m := range r.messages("RETRY_OUTCOMES", subject) {
		var s events.Scheduled
		if err := json.Unmarshal(m.Data, &s); err != nil {
			r.t.Fatal(err)
		}
		out = append(out, s)
	}
	return out
}

const resourceAware = `
default: {maxAttempts: 4, baseDelay: 20ms, maxDelay: 1s, backoffStrategy: adaptive, jitterType: none, enableResourceAwareRetry: true,
  successRateThreshold: 0.7, adaptationFactor: 0.5, learningWindow: 10}
`

func TestHealth_ServiceWhoseRedeliveriesFailWaitsLonger(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{Policies: policySet(t, resourceAware)})
	r.target("billing.charge", func(int, micro.Request) (string, string, micro.Headers) { return "503", "busy", nil })
	r.submit("retry.submit.billing.charge", map[string]string{"ce-errorcode": "503"}, "x")
	r.awaitOutcomes(1, 10*time.Second)

	decisions := r.scheduled("billing", 3)
	if first := decisions[0]; first.Factors["successRate"] != 1 || first.Factors["health"] != 1 || first.Confidence != 0 {
		t.Errorf("before any attempt the decision is %+v, want factors of 1 and no confidence", first)
	}
	for i, d := range decisions[1:] {
		before := decisions[i]
		if d.Factors["successRate"] <= before.Factors["successRate"] || d.Factors["health"] <= before.Factors["health"] || d.Confidence <= before.Confidence {
			t.Errorf("after %d failed attempts the decision is %+v, want greater factors and confidence than %+v", i+1, d, before)
		}
	}
	if m, _ := r.health("billing"); m.Samples != 3 || *m.SuccessRate != 0 || m.HealthScore >= 50 {
		t.Errorf("after 3 failed attempts the health is %+v", m)
	}
}

func TestHealth_OnlyRedeliveriesAreMeasured(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{})
	r.target("billing.charge", func(int, micro.Request) (string, string, micro.Headers) { return "", "", nil })
	r.target("billing.refund", func(int, micro.Request) (string, string, micro.Headers) { return "422", "bad amount", nil })
	for range 5 {
		r.submit("retry.submit.billing.charge", map[string]string{"ce-errorcode": "503"}, "x")
		r.submit("retry.submit.billing.refund", map[string]string{"ce-errorcode": "503"}, "x")
	}
	r.awaitOutcomes(10, 10*time.Second)
	m, ok := r.health("billing")
	if !ok || m.Samples != 5 || *m.SuccessRate != 1 || *m.ErrorRate != 0 || m.InFlight != 0 {
		t.Fatalf("the health is %+v, want 5 attempts that succeeded: neither submissions nor validation errors speak of health", m)
	}
	if *m.AverageResponseTime <= 0 || *m.P95ResponseTime < *m.AverageResponseTime/2 || *m.SampleAgeMs < 0 {
		t.Errorf("the response times are %v and %v, the age %v", *m.AverageResponseTime, *m.P95ResponseTime, *m.SampleAgeMs)
	}
}

func TestHealth_ReportOfABusyServiceLengthensItsDelaysUntilItHasFaded(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s := r.start(handlers.Config{Policies: policy.Builtin(), Host: idle})
	busy := 95.0
	r.report("retry.health.connection_pool", `{"cpuUtilization":95,"queueLength":20}`)
	testkit.Eventually(t, 10*time.Second, "the report being heard", func() bool {
		_, ok := r.health("connection_pool")
		return ok
	})
	r.submit("retry.submit.connection_pool.acquire_connection", map[string]string{"ce-errorcode": "503"}, "x")
	if d := r.scheduled("connection_pool", 1)[0]; d.Factors["cpu"] <= 1 || d.Factors["queue"] <= 1 || d.Factors["memory"] != 1 || d.Strategy != "adaptive_exponential" {
		t.Errorf("with a CPU of 95 %% and a queue of 20 the decision is %+v", d)
	}

	// The report stops coming: the next decision is made as if ten minutes had
	// passed.
	if err := s.Health().Report("connection_pool", events.HealthReport{CPUUtilization: &busy, QueueLength: new(int)}, time.Now().Add(-health.ReportMaxAge)); err != nil {
		t.Fatal(err)
	}
	r.submit("retry.submit.connection_pool.create_connection", map[string]string{"ce-errorcode": "503"}, "x")
	testkit.Eventually(t, 10*time.Second, "the decision on create_connection", func() bool {
		return r.count("RETRY_OUTCOMES", "retry.event.retryScheduled.connection_pool.create_connection") > 0
	})
	for _, d := range r.scheduled("connection_pool", 2) {
		if d.Operation == "create_connection" && (d.Factors["cpu"] != 1 || d.Factors["queue"] != 1) {
			t.Errorf("with a report of ten minutes ago the decision is %+v, want factors of 1", d)
		}
	}
}

func TestHealth_BadReportIsCountedAndLoggedOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var log lockedBuilder
	r.start(handlers.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	const n = 50
	for range n {
		r.report("retry.health.pool", `{"cpu":1}`)
	}
	for _, subject := range []string{"retry.health.a.b", "retry.health.-a", "retry.health.pool"} {
		r.report(subject, "\x00")
	}
	r.report("retry.health.pool", `{"cpuUtilization":12}`)
	testkit.Eventually(t, 10*time.Second, "the good report being heard", func() bool {
		_, ok := r.health("pool")
		return ok
	})
	var answer schemas.Health
	r.request("rebound.health", nil, nil, &answer)
	if answer.RefusedReports != n+3 {
		t.Errorf("%d reports were refused, want %d", answer.RefusedReports, n+3)
	}
	if n := strings.Count(log.String(), "health reports are refused"); n != 1 {
		t.Errorf("the log has refused reports %d times, want once:\n%s", n, log.String())
	}
}

// lockedBuilder is a log that can be read while it is written.
type lockedBuilder struct {
	mu  sync.Mutex // guards the builder
	all strings.Builder
}

func (b *lockedBuilder) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.Write(p)
}

func (b *lockedBuilder) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.String()
}

func TestHealth_EveryInstanceHearsReportsAndAnswersForItself(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{}, handlers.Config{})
	m, err := wire.EncodeHealth(events.Subjects{}, "pool", events.HealthReport{QueueLength: new(int)}, wire.Envelope{Source: "/pool", ID: "1", Time: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.nc.PublishMsg(m); err != nil {
		t.Fatal(err)
	}
	answers := map[string]schemas.Health{}
	inbox := r.nc.NewInbox()
	sub, err := r.nc.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 10*time.Second, "both instances knowing the service and measuring their host", func() bool {
		if err := r.nc.PublishMsg(&nats.Msg{Subject: "rebound.health", Reply: inbox}); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			m, err := sub.NextMsg(5 * time.Second)
			if err != nil {
				t.Fatalf("waiting for two answers: %v", err)
			}
			var answer schemas.Health
			if err := json.Unmarshal(m.Data, &answer); err != nil {
				t.Fatal(err)
			}
			if len(answer.Services) == 1 && answer.Host != nil && answer.Host.MemoryUtilization > 0 {
				answers[answer.Instance] = answer
			}
		}
		return len(answers) == 2
	})
}

func TestHealth_RequestIsChecked(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{})
	for what, body := range map[string]any{
		"a service with a dot": map[string]any{"service": "a.b"}, "an unknown key": map[string]any{"servise": "a"}, "no JSON": []byte("{"),
	} {
		if code, text := r.request("rebound.health", nil, body, nil); code != "400" {
			t.Errorf("asking with %s is answered with %q %q, want 400", what, code, text)
		}
	}
	if m, ok := r.health("unheard-of"); ok {
		t.Errorf("of a service that nobody heard of there is %+v", m)
	}
}

func TestHealth_InstancesShareWhatTheyMeasureAndTheStateOfBreakers(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{Policies: policySet(t, `default: {maxAttempts: 9, baseDelay: 20ms, maxDelay: 20ms, jitterType: none, circuitBreakerThreshold: 3, circuitBreakerTimeout: 1m}`)}, handlers.Config{})
	r.target("billing.charge", func(int, micro.Request) (string, string, micro.Headers) { return "503", "busy", nil })
	for range 4 {
		r.submit("retry.submit.billing.charge", map[string]string{"ce-errorcode": "503"}, "x")
	}
	inbox := r.nc.NewInbox()
	sub, err := r.nc.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 10*time.Second, "both instances knowing that the service is down", func() bool {
		if err := r.nc.PublishMsg(&nats.Msg{Subject: "rebound.health", Reply: inbox}); err != nil {
			t.Fatal(err)
		}
		var answers [2]schemas.Health
		for i := range answers {
			m, err := sub.NextMsg(5 * time.Second)
			if err != nil {
				t.Fatalf("waiting for two answers: %v", err)
			}
			if err := json.Unmarshal(m.Data, &answers[i]); err != nil {
				t.Fatal(err)
			}
			if len(answers[i].Services) != 1 || answers[i].Services[0].CircuitBreakerState != breaker.Open {
				return false
			}
		}
		a, b := answers[0].Services[0], answers[1].Services[0]
		return a.Samples >= 3 && a.Samples == b.Samples && a.HealthScore == b.HealthScore && a.HealthScore <= 40 && *a.SuccessRate == 0 && *b.SuccessRate == 0
	})
}

func TestHealth_OfAServiceWithoutListenersIsLowAtAllInstances(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{}, handlers.Config{})
	r.submit("retry.submit.billing.charge", map[string]string{"ce-errorcode": "503"}, "x")
	testkit.Eventually(t, 10*time.Second, "the target being found absent by either instance", func() bool {
		for range 4 {
			if m, _ := r.health("billing"); !m.TargetAbsent || m.HealthScore > 40 {
				return false
			}
		}
		return true
	})
}
