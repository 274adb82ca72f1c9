package handlers_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/internal/policies"
	"github.com/rebound-mq/rebound/internal/testkit"
	"github.com/rebound-mq/rebound/schemas"
)

// inForce asks every instance for its policies in force.
func (r *rig) inForce(instances int) []schemas.PolicyShow {
	r.t.Helper()
	inbox := r.nc.NewInbox()
	sub, err := r.nc.SubscribeSync(inbox)
	if err == nil {
		err = r.nc.PublishRequest("rebound.policy.show", inbox, nil)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	var shown []schemas.PolicyShow
	for len(shown) < instances {
		m, err := sub.NextMsg(5 * time.Second)
		if err != nil {
			r.t.Fatalf("%d of %d instances answered: %v", len(shown), instances, err)
		}
		var p schemas.PolicyShow
		if err := json.Unmarshal(m.Data, &p); err != nil {
			r.t.Fatal(err)
		}
		shown = append(shown, p)
	}
	return shown
}

func (r *rig) apply(source string) uint64 {
	r.t.Helper()
	var applied schemas.PolicyApplied
	if code, text := r.request("rebound.policy.apply", nil, schemas.PolicySource{Source: source}, &applied); code != "" {
		r.t.Fatalf("applying was answered with %s %s", code, text)
	}
	return applied.Revision
}

func TestPolicies_ChangeDecidesAtEveryInstanceAndLeavesWhatWaits(t *testing.T) {
	t.Parallel()
	const waiting, instances = 10_000, 3
	r := newRig(t, handlers.Config{}, handlers.Config{}, handlers.Config{})
	r.apply("default: {maxAttempts: 5, baseDelay: 1h, maxDelay: 2h, jitterType: none}\n")
	r.awaitRevision(1, instances)
	for range waiting {
		if _, err := r.js.PublishAsync("retry.submit.billing.charge", []byte("x"), jetstream.WithStallWait(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	<-r.js.PublishAsyncComplete()
	testkit.Eventually(t, time.Minute, "all being parked", func() bool { return r.size("RETRY") == waiting && r.size("RETRY_INTAKE") == 0 })

	revision := r.apply("default: {maxAttempts: 5, baseDelay: 2h, maxDelay: 2h, jitterType: none}\n")
	r.awaitRevision(revision, instances)
	for range 30 {
		r.submit("retry.submit.billing.refund", nil, "x")
	}
	testkit.Eventually(t, 10*time.Second, "the new ones being parked", func() bool { return r.size("RETRY") == waiting+30 })
	delays := map[string]map[time.Duration]int{"charge": {}, "refund": {}}
	for _, m := range r.messages("RETRY", "retry.parked.>") {
		op, err := wire.ReadState(m.Header)
		if err != nil {
			t.Fatal(err)
		}
		delays[op.Operation][op.PreviousDelay()]++
	}
	if got := delays["charge"]; got[time.Hour] != waiting {
		t.Errorf("what waited has the delays %v, want 1h for all %d", got, waiting)
	}
	if got := delays["refund"]; got[2*time.Hour] != 30 {
		t.Errorf("what came after has the delays %v, want 2h for all 30", got)
	}
}

// size returns how many messages a stream holds, or -1 if the server is too busy to
// answer. It is cheap.
func (r *rig) size(stream string) int {
	r.t.Helper()
	s, err := r.js.Stream(r.t.Context(), stream)
	if errors.Is(err, context.DeadlineExceeded) {
		return -1
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return int(s.CachedInfo().State.Msgs)
}

// awaitRevision waits until every instance has a revision in force.
func (r *rig) awaitRevision(revision uint64, instances int) {
	r.t.Helper()
	testkit.Eventually(r.t, 10*time.Second, "every instance having the policies in force", func() bool {
		for _, p := range r.inForce(instances) {
			if p.Revision != revision {
				return false
			}
		}
		return true
	})
}

func TestPolicies_InvalidOnesAreRefusedAndTheOldOnesStay(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{})
	good := r.apply("billing: {maxAttempts: 7}\n")
	r.awaitRevision(good, 1)
	if code, text := r.request("rebound.policy.apply", nil, schemas.PolicySource{Source: "billing: {maxAttempts: many}\n"}, nil); code != "400" || !strings.Contains(text, "request:1:24: billing.maxAttempts") {
		t.Errorf("bad policies were answered with %s %s", code, text)
	}
	// Somebody stores them with a plain client.
	kv, err := r.js.KeyValue(t.Context(), policies.BucketName(""))
	if err == nil {
		_, err = kv.PutString(t.Context(), "current", "billing: [")
	}
	if err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 10*time.Second, "the refusal being shown", func() bool { return r.inForce(1)[0].Refused != nil })
	if p := r.inForce(1)[0]; p.Revision != good || p.Refused.Revision <= good || !strings.Contains(p.Refused.Problem, "YAML") || p.Source != "billing: {maxAttempts: 7}\n" {
		t.Errorf("in force is %+v, want revision %d still", p, good)
	}
	var status schemas.Status
	r.request("rebound.status", nil, nil, &status)
	if status.Policies.Revision != good || status.Policies.Refused == nil {
		t.Errorf("the status tells of the policies %+v", status.Policies)
	}
	if err := kv.Delete(t.Context(), "current"); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 10*time.Second, "the policies of the start being in force again", func() bool {
		p := r.inForce(1)[0]
		return p.Name == "test.yaml" && p.Refused == nil
	})
}

func TestPolicies_NewInstanceHasTheAppliedOnesInForce(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{})
	revision := r.apply("billing: {maxAttempts: 7}\n")
	s := r.start(handlers.Config{})
	for _, p := range r.inForce(2) {
		if p.Instance == s.ID() && p.Revision != revision {
			t.Errorf("the new instance has %+v in force, want revision %d", p.PolicyState, revision)
		}
	}
}

func TestPolicies_EndpointsAnswerByTheirSchemasOrRefuse(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{})
	r.apply("# first\nbilling: {maxAttempts: 7}\n")
	r.awaitRevision(1, 1)
	for _, c := range []struct {
		subject, schema string
		body            any
		want            string
	}{
		{"rebound.policy.show", "policyShow.response", nil, `"name":"revision 1"`},
		{"rebound.policy.check", "policyCheck.response", schemas.PolicySource{Name: "p.yaml", Source: "billing: {maxAttemps: 7}"}, `"meant":"did you mean maxAttempts?"`},
		{"rebound.policy.check", "policyCheck.response", schemas.PolicySource{Source: "billing: {maxAttempts: 7}"}, `"valid":true`},
		{"rebound.policy.explain", "policyExplain.response", schemas.PolicyQuery{Service: "billing", Operation: "charge", Priority: "high", Overrides: map[string]string{"maxattempts": "2"}}, `"text":"2"`},
		{"rebound.policy.history", "policyHistory.response", nil, `"comment":"first"`},
		{"rebound.policy.rollback", "policyApplied.response", schemas.PolicyRollback{Revision: 1}, `"revision":2`},
	} {
		var answer json.RawMessage
		if code, text := r.request(c.subject, nil, c.body, &answer); code != "" {
			t.Errorf("%s was answered with %s %s", c.subject, code, text)
			continue
		}
		if err := schemas.Validate(c.schema, answer); err != nil || !strings.Contains(string(answer), c.want) {
			t.Errorf("the answer of %s is %s, want %s in it, by its schema (%v)", c.subject, answer, c.want, err)
		}
	}
	for _, c := range []struct {
		subject, code, want string
		body                any
	}{
		{"rebound.policy.rollback", "404", "no such revision", schemas.PolicyRollback{Revision: 99}},
		{"rebound.policy.explain", "400", "service", schemas.PolicyQuery{Service: "a.b", Operation: "c"}},
		{"rebound.policy.explain", "400", "maxattempts", schemas.PolicyQuery{Service: "a", Operation: "c", Overrides: map[string]string{"maxattempts": "0"}}},
		{"rebound.policy.explain", "400", "urgent", schemas.PolicyQuery{Service: "a", Operation: "c", Priority: "urgent"}},
		{"rebound.policy.apply", "400", "unknown field", map[string]string{"file": "x"}},
	} {
		if code, text := r.request(c.subject, nil, c.body, nil); code != c.code || !strings.Contains(text, c.want) {
			t.Errorf("%s with %+v was answered with %s %s, want %s and %q", c.subject, c.body, code, text, c.code, c.want)
		}
	}
}

func TestPolicies_AccountsAndCampaignsHaveTheirOwn(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{Policies: policySet(t, `
billing:
  maxAttempts: 2
  baseDelay: 5ms
  jitterType: none
  enableCircuitBreaker: false
  accounts: {premium: {maxAttempts: 5}}
  campaigns: {launch: {maxAttempts: 4}}
`)})
	r.target("billing.charge", func(int, micro.Request) (string, string, micro.Headers) { return "503", "busy", nil })
	for account, campaign := range map[string]string{"premium": "", "": "launch", "plain": ""} {
		h := map[string]string{}
		if account != "" {
			h["ce-accountid"] = account
		}
		if campaign != "" {
			h["ce-campaignid"] = campaign
		}
		r.submit("retry.submit.billing.charge", h, "x")
	}
	attempts := map[string]int{}
	for _, o := range r.awaitOutcomes(3, 15*time.Second) {
		attempts[o.Account+o.Campaign] = o.Attempts
	}
	if attempts["premium"] != 5 || attempts["launch"] != 4 || attempts["plain"] != 2 {
		t.Errorf("attempts by account and campaign are %v, want premium 5, launch 4, plain 2", attempts)
	}
}

func TestPolicies_InstancesThatWereStartedWithDifferentFilesSaySo(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var log testkit.Buffer
	s := r.start(handlers.Config{Policies: policySet(t, quick), Logger: logger(&log)})
	r.start(handlers.Config{Policies: policySet(t, `default: {maxAttempts: 9}`)})
	testkit.Eventually(t, 10*time.Second, "the instance saying that policies differ", func() bool {
		code, says := readyz(t, s)
		return code == http.StatusOK && strings.Contains(says, "none are applied to all")
	})
	if n := strings.Count(log.String(), "instances decide by different policies"); n != 1 {
		t.Errorf("the log tells it %d times, want once:\n%s", n, log.String())
	}
	testkit.Eventually(t, 10*time.Second, "rebound.health telling it", func() bool {
		m, err := r.nc.Request("rebound.health", nil, time.Second)
		return err == nil && strings.Contains(string(m.Data), "none are applied to all")
	})
	r.apply(`default: {maxAttempts: 3}`)
	testkit.Eventually(t, 10*time.Second, "the instances agreeing", func() bool {
		_, says := readyz(t, s)
		return says == ""
	})
}
