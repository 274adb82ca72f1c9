package cli

import (
	"strings"
	"testing"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/internal/doctor"
	"github.com/rebound-mq/rebound/schemas"

	"github.com/rebound-mq/rebound/internal/testkit"
)

func TestBreaker_IsTrippedHeldShownAndReset(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	c.fails(exitFailure, "no service answers", "breaker", "list")
	c.service()
	if r := c.run("breaker", "list"); r.code != exitOK || r.stdout != "" || !strings.Contains(r.stderr, "0 breakers") {
		t.Errorf("a list of none is %+v", r)
	}
	c.fails(exitFailure, "nothing is known of a breaker of billing:charge", "breaker", "show", "billing:charge")

	if r := c.run("breaker", "trip", "billing:charge", "--yes", "--for", "1h", "--note", "being\nmoved"); r.code != exitOK || !strings.Contains(r.stderr, "is tripped until 2") {
		t.Errorf("tripping gave %+v", r)
	}
	tripped := jsonLines[schemas.BreakerShown](t, c.ok("breaker", "show", "billing:charge", "--output", "json"))[0]
	if tripped.State.String() != "OPEN" || tripped.Held || tripped.NextAttemptTime.IsZero() || tripped.Note != "being\nmoved" || !tripped.Coordination.Shared {
		t.Errorf("the tripped breaker is %+v", tripped)
	}
	if r := c.run("breaker", "hold", "billing:charge", "--as", "ann@ops", "--note", "the bank"); r.code != exitOK || !strings.Contains(r.stderr, "is held open\n") {
		t.Errorf("holding gave %+v", r)
	}
	for _, args := range [][]string{{"breaker", "list"}, {"breaker", "list", "billing"}, {"breaker", "show", "billing:charge"}, {"status"}} {
		if got := c.ok(args...); !strings.Contains(got, "billing:charge") || !strings.Contains(got, "OPEN, held") {
			t.Errorf("%v shows\n%s", args, got)
		}
	}
	for _, args := range [][]string{{"breaker", "list"}, {"breaker", "show", "billing:charge"}, {"status"}} {
		if got := c.ok(args...); !strings.Contains(got, "ann@ops") || !strings.Contains(got, "the bank") {
			t.Errorf("%v does not show who held the breaker and why:\n%s", args, got)
		}
	}
	if got := c.ok("breaker", "list", "shipping"); got != "" {
		t.Errorf("the breakers of another service are\n%s", got)
	}
	acted := jsonLines[schemas.BreakerActed](t, c.ok("breaker", "reset", "billing:charge", "--output", "json"))[0]
	if acted.State.String() != "CLOSED" || acted.Cause != "reset" || acted.Operated.Action != "reset" || acted.Operated.By == "" {
		t.Errorf("the breaker that was reset is %+v", acted)
	}
	if got := c.ok("status"); strings.Contains(got, "billing:charge") || !strings.Contains(got, "nats") {
		t.Errorf("the status with all breakers closed is\n%s", got)
	}

	c.fails(exitUsage, "not of the form service:operation", "breaker", "trip", "billing")
	c.fails(exitUsage, "service in key", "breaker", "show", ".x:y")
	c.fails(exitUsage, "can be tripped for 0 to", "breaker", "trip", "billing:charge", "--for", "31d")
	c.fails(exitUsage, "more than the 500 allowed", "breaker", "hold", "billing:charge", "--note", strings.Repeat("x", 501))
}

func TestServe_SharesBreakersInRedisAndOutlivesIt(t *testing.T) {
	t.Parallel()
	redis := testkit.Redis(t)
	c := bareCLI(t, testkit.Server(t).ClientURL())
	args := []string{"serve", "--http", "off", "--redis", redis.URL()}
	first, second := c.start(nil, args...), c.start(nil, args...)
	for _, r := range []*running{first, second} {
		testkit.Eventually(t, patience, "it runs", func() bool { return strings.Contains(r.stderr.String(), "is running") })
	}
	coordination := func() schemas.Sharing {
		return jsonLines[statusWithHealth](t, c.ok("status", "--output", "json"))[0].Coordination
	}
	if got := coordination(); got.Store != "redis" || !got.Shared || got.Problem != "" {
		t.Errorf("the breakers are %+v, want them shared in Redis", got)
	}
	if found := c.findings(exitOK, "--redis", redis.URL())["redis"]; found.Status != doctor.OK || !strings.Contains(found.Found, "version") {
		t.Errorf("the doctor says %+v of Redis", found)
	}
	redis.Stop()
	testkit.Eventually(t, patience, "it is noticed that Redis is gone", func() bool { return !coordination().Shared })
	if r := c.run("breaker", "hold", "billing:charge", "--yes"); r.code != exitOK || !strings.Contains(r.stderr, "only one instance knows") {
		t.Errorf("holding without Redis gave %+v", r)
	}
	if found := c.findings(exitOK, "--redis", redis.URL())["redis"]; found.Status != doctor.Warn {
		t.Errorf("the doctor says %+v of Redis that is gone", found)
	}
	redis.Restart()
	testkit.Eventually(t, patience, "both join again and know of the breaker", func() bool {
		for range 8 {
			if list := jsonLines[breaker.Summary](t, c.ok("breaker", "list", "--output", "json")); !coordination().Shared || len(list) != 1 || !list[0].Held {
				return false
			}
		}
		return true
	})
	for _, r := range []*running{first, second} {
		r.interrupt()
		if out := r.wait(); out.code != exitOK || !strings.Contains(out.stderr, "out of reach") || !strings.Contains(out.stderr, "the circuit breakers are shared") {
			t.Errorf("it ended with %d:\n%s", out.code, out.stderr)
		}
	}
	c.fails(exitFailure, "invalid database number", "serve", "--http", "off", "--redis", "redis://h/x")
	c.fails(exitUsage, `the scheme "http"`, "serve", "--redis", "http://h")
}
