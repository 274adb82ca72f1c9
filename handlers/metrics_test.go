package handlers_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/micro"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/rebound-mq/rebound/breaker/redisstore"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/internal/ledger/redisledger"
	"github.com/rebound-mq/rebound/internal/redisconn"
	"github.com/rebound-mq/rebound/internal/telemetry"
	"github.com/rebound-mq/rebound/internal/testkit"
	"github.com/rebound-mq/rebound/schemas"
)

// scraper reads the metrics of an instance over HTTP.
type scraper struct {
	t   *testing.T
	url string
}

func newScraper(t *testing.T, s *handlers.Service) *scraper {
	t.Helper()
	server := httptest.NewServer(s.HTTP())
	t.Cleanup(server.Close)
	return &scraper{t, server.URL + "/metrics"}
}

// text returns the metrics as served.
func (s *scraper) text() []byte {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	answer, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		s.t.Fatalf("scraping: %v", err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		s.t.Fatalf("scraping is answered with %s %.300s, %v", answer.Status, body, err)
	}
	return body
}

// values returns every value by name and labels, as in name{a="1",b="2"}; for
// histograms the count and the sum.
func (s *scraper) values() map[string]float64 {
	s.t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(s.text()))
	if err != nil {
		s.t.Fatalf("the metrics cannot be parsed: %v", err)
	}
	values := make(map[string]float64)
	for name, family := range families {
		for _, m := range family.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			sort.Strings(labels)
			suffix := ""
			if len(labels) > 0 {
				suffix = "{" + strings.Join(labels, ",") + "}"
			}
			if h := m.GetHistogram(); h != nil {
				values[name+"_count"+suffix], values[name+"_sum"+suffix] = float64(h.GetSampleCount()), h.GetSampleSum()
				continue
			}
			values[name+suffix] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return values
}

// await waits until the metrics have a value.
func (s *scraper) await(name string, want float64) {
	s.t.Helper()
	testkit.Eventually(s.t, 20*time.Second, fmt.Sprintf("%s %v", name, want), func() bool {
		got, ok := s.values()[name]
		return ok && got == want
	})
}

// want checks values and returns all of them.
func (s *scraper) want(want map[string]float64) map[string]float64 {
	s.t.Helper()
	values := s.values()
	for name, w := range want {
		if got, ok := values[name]; !ok || got != w {
			s.t.Errorf("%s is %v (shown: %t), want %v", name, got, ok, w)
		}
	}
	return values
}

func TestMetrics_TellWhatBecomesOfOperations(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s := r.start(handlers.Config{Policies: policySet(t, `
default: {maxAttempts: 4, baseDelay: 20ms, maxDelay: 1s, backoffStrategy: fixed, jitterType: none, attemptTimeout: 20s, enableAdaptiveBackoff: false}
pay:
  operations:
    refund: {baseDelay: 600ms}
`)})
	m := newScraper(t, s)
	r.target("pay.charge", func(call int, _ micro.Request) (string, string, micro.Headers) {
		if call == 1 {
			return "503", "not now", nil
		}
		return "", "", nil
	})
	r.target("pay.refund", func(int, micro.Request) (string, string, micro.Headers) { return "", "", nil })
	r.target("pay.void", func(int, micro.Request) (string, string, micro.Headers) { return "403", "never", nil })
	r.target("pay.hold", func(int, micro.Request) (string, string, micro.Headers) { return "", "", nil })

	if code, text := r.request("rebound.breaker.hold", nil, schemas.BreakerAct{Key: "pay:hold"}, nil); code != "" {
		t.Fatalf("holding a breaker: %s %s", code, text)
	}
	for _, operation := range []string{"charge", "refund", "void", "hold"} {
		r.submit("retry.submit.pay."+operation, nil, "secret-payload")
	}
	r.submit("retry.submit.pay.broken", map[string]string{"ce-attempt": "-1"}, "x")
	if code, _ := r.request("rebound.submit.pay.broken", map[string][]string{"ce-attempt": {"-1"}}, []byte("x"), nil); code == "" {
		t.Fatal("a submission with a negative attempt was accepted, want it refused")
	}
	r.awaitOutcomes(4, 20*time.Second)
	m.await(`rebound_operations_held_total{operation="hold",service="pay"}`, 1)
	m.await(`rebound_operations_in_hand`, 0)

	values := m.want(map[string]float64{
		`rebound_submissions_total{operation="charge",result="accepted",service="pay"}`:                       1,
		`rebound_submissions_total{operation="broken",result="rejected",service="pay"}`:                       2,
		`rebound_attempts_total{operation="charge",result="failure",service="pay"}`:                           1,
		`rebound_attempts_total{operation="charge",result="success",service="pay"}`:                           1,
		`rebound_attempts_total{operation="refund",result="success",service="pay"}`:                           1,
		`rebound_attempts_total{operation="void",result="failure",service="pay"}`:                             1,
		`rebound_outcomes_total{operation="charge",outcome="retrySuccess",reason="",service="pay"}`:           1,
		`rebound_outcomes_total{operation="void",outcome="retryFailed",reason="not_retryable",service="pay"}`: 1,
		`rebound_outcomes_total{operation="broken",outcome="retryFailed",reason="rejected",service="pay"}`:    1,
		`rebound_operations_parked_total{operation="refund",service="pay"}`:                                   1,
		`rebound_dead_letters_total{operation="void",service="pay"}`:                                          1,
		`rebound_dead_letters_total{operation="broken",service="pay"}`:                                        1,
		`rebound_retry_delay_seconds_count{operation="charge",service="pay"}`:                                 2,
		`rebound_retry_delay_seconds_sum{operation="charge",service="pay"}`:                                   0.04,
		`rebound_retry_delay_seconds_sum{operation="refund",service="pay"}`:                                   0.6,
		`rebound_attempt_duration_seconds_count{operation="charge",service="pay"}`:                            2,
		`rebound_attempt_lateness_seconds_count`:                                                              4,
		`rebound_coordination_shared{of="breakers",store="nats"}`:                                             1,
		`rebound_coordination_shared{of="limits",store="nats"}`:                                               1,
		`rebound_instances`:                                            1,
		`rebound_backpressure`:                                         0,
		`rebound_gate_open{operation="hold",service="pay"}`:            0,
		`rebound_gate_open{operation="refund",service="pay"}`:          1,
		`rebound_breaker_state{operation="hold",service="pay"}`:        2,
		`rebound_breaker_state{operation="refund",service="pay"}`:      0,
		`rebound_attempts_in_flight{operation="refund",service="pay"}`: 0,
		`rebound_governor_active{operation="refund",service="pay"}`:    0,
		`rebound_worker_reports_total{result="accepted"}`:              0,
		`rebound_worker_reports_total{result="refused"}`:               0,
	})
	if late := values[`rebound_attempt_lateness_seconds_sum`]; late < 0 || late > 10 {
		t.Errorf("4 attempts were %v s late together, want 0 to 10", late)
	}
	if score, ok := values[`rebound_service_health_score{service="pay"}`]; !ok || score < 0 || score > 100 {
		t.Errorf("the health score of pay is %v (shown: %t), want 0 to 100", score, ok)
	}
	if _, ok := values[`rebound_governor_rate_per_second{operation="refund",service="pay"}`]; ok {
		t.Error("a governor that is off has a rate, want none")
	}
	for _, name := range []string{"go_goroutines", "process_resident_memory_bytes"} {
		if values[name] <= 0 {
			t.Errorf("%s is %v, want more than 0", name, values[name])
		}
	}

	if code, text := r.request("rebound.breaker.reset", nil, schemas.BreakerAct{Key: "pay:hold"}, nil); code != "" {
		t.Fatalf("resetting a breaker: %s %s", code, text)
	}
	m.await(`rebound_outcomes_total{operation="hold",outcome="retrySuccess",reason="",service="pay"}`, 1)
	m.await(`rebound_gate_open{operation="hold",service="pay"}`, 1)
	m.await(`rebound_breaker_state{operation="hold",service="pay"}`, 0)

	text := m.text()
	if bytes.Contains(text, []byte("secret-payload")) {
		t.Error("the metrics contain a payload")
	}
	problems, err := promlint.New(bytes.NewReader(text)).Lint()
	if err != nil {
		t.Fatalf("linting the metrics: %v", err)
	}
	for _, p := range problems {
		t.Errorf("promlint says of %s: %s", p.Metric, p.Text)
	}
}

func TestMetrics_TellOfAttemptsByWorkers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	m := newScraper(t, r.start(handlers.Config{Policies: policySet(t, working("20s"))}))
	r.submit("retry.submit.billing.charge", publish, "x")
	job := r.job("RETRY_WORK")
	forged := reportOn(job, "success")
	forged.Header.Set(events.HeaderToken, "guessed")
	if code := r.sayTo(forged); code != "403" {
		t.Errorf("a report with a token that was guessed is answered with %q, want 403", code)
	}
	r.say(reportOn(job, "success"))
	r.awaitOutcomes(1, 20*time.Second)
	m.await(`rebound_worker_reports_total{result="accepted"}`, 1)
	m.await(`rebound_attempts_total{operation="charge",result="success",service="billing"}`, 1)
	m.want(map[string]float64{
		`rebound_worker_reports_total{result="refused"}`:                               1,
		`rebound_attempt_duration_seconds_count{operation="charge",service="billing"}`: 1,
		`rebound_attempt_lateness_seconds_count`:                                       1,
	})
}

func TestMetrics_TellWhetherCoordinationIsShared(t *testing.T) {
	t.Parallel()
	redis := testkit.Redis(t)
	client, err := redisconn.Open(redis.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	r := newRig(t)
	working, done := make(chan struct{}), make(chan struct{})
	// An attempt in flight keeps the lease of its key in use.
	r.parallel("pay.charge", func(req micro.Request) {
		close(working)
		<-done
		_ = req.Respond(nil)
	})
	s := r.start(handlers.Config{
		Policies: policySet(t, `default: {maxAttempts: 2, baseDelay: 10ms, attemptTimeout: 2m, maxConcurrentRetries: 5}`),
		Breakers: redisstore.New(client, ""), Ledgers: redisledger.New(client, ""),
	})
	t.Cleanup(func() { close(done) })
	m := newScraper(t, s)
	r.submit("retry.submit.pay.charge", nil, "x")
	<-working
	const breakers, limits = `rebound_coordination_shared{of="breakers",store="redis"}`, `rebound_coordination_shared{of="limits",store="redis"}`
	m.await(breakers, 1)
	m.await(limits, 1)
	m.await(`rebound_attempts_in_flight{operation="charge",service="pay"}`, 1)
	redis.Stop()
	m.await(breakers, 0)
	m.await(limits, 0)
	redis.Restart()
	m.await(breakers, 1)
	m.await(limits, 1)
}

func TestMetrics_InventedKeysHaveNoneOfTheirOwnBeyondABound(t *testing.T) {
	t.Parallel()
	const beyond = 50
	r := newRig(t)
	m := newScraper(t, r.start(handlers.Config{Policies: policySet(t, `default: {maxAttempts: 2, baseDelay: 1ms, enableCircuitBreaker: true}`)}))
	r.parallel("*.o", func(req micro.Request) { _ = req.Respond(nil) })
	r.submitAll(telemetry.MaxMeteredKeys+beyond, func(i int) (string, map[string]string) { return fmt.Sprintf("retry.submit.s%d.o", i), nil })
	testkit.Eventually(t, 60*time.Second, "every operation having ended", func() bool {
		return r.count("RETRY_OUTCOMES", "retry.outcome.>") == telemetry.MaxMeteredKeys+beyond
	})
	m.await(`rebound_operations_in_hand`, 0)
	values := m.want(map[string]float64{
		`rebound_submissions_total{operation="other",result="accepted",service="other"}`:             beyond,
		`rebound_attempts_total{operation="other",result="success",service="other"}`:                 beyond,
		`rebound_outcomes_total{operation="other",outcome="retrySuccess",reason="",service="other"}`: beyond,
		`rebound_attempts_in_flight{operation="other",service="other"}`:                              0,
		`rebound_breaker_state{operation="other",service="other"}`:                                   0,
	})
	series := make(map[string]int)
	for name := range values {
		name, _, _ = strings.Cut(name, "{")
		series[name]++
	}
	for name, n := range series {
		if strings.HasPrefix(name, "rebound_") && n > telemetry.MaxMeteredKeys+1 {
			t.Errorf("%s has %d series, want at most %d", name, n, telemetry.MaxMeteredKeys+1)
		}
	}
}
