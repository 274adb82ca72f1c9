package handlers_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/internal/natsconn"
	"github.com/rebound-mq/rebound/schemas"
)

// request asks an endpoint and decodes the answer into out; it returns the
// error code and description of the answer.
func (r *rig) request(subject string, h nats.Header, body any, out any) (code, description string) {
	r.t.Helper()
	data, ok := body.([]byte)
	if !ok && body != nil {
		var err error
		if data, err = json.Marshal(body); err != nil {
			r.t.Fatal(err)
		}
	}
	m, err := r.nc.RequestMsg(&nats.Msg{Subject: subject, Header: h, Data: data}, 10*time.Second)
	if err != nil {
		r.t.Fatalf("asking %s: %v", subject, err)
	}
	if code = m.Header.Get(micro.ErrorCodeHeader); code == "" && out != nil {
		if err := json.Unmarshal(m.Data, out); err != nil {
			r.t.Fatalf("the answer of %s is no JSON: %v: %s", subject, err, m.Data)
		}
	}
	return code, m.Header.Get(micro.ErrorHeader)
}

func TestEndpoints_SubmissionIsAnsweredWithItsIDOrTheError(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{})
	r.target("billing.charge", func(int, micro.Request) (string, string, micro.Headers) { return "", "", nil })
	var got schemas.Submitted
	if code, text := r.request("rebound.submit.billing.charge", nil, []byte("x"), &got); code != "" {
		t.Fatalf("a valid submission was answered with %s %s", code, text)
	}
	outcome := r.awaitOutcomes(1, 10*time.Second)[0]
	if got.ID != outcome.ID || got.EventID != outcome.EventID || got.Stream != "RETRY_INTAKE" || got.Sequence == 0 {
		t.Errorf("the answer is %+v, the outcome %+v", got, outcome)
	}

	for _, c := range []struct {
		name, subject string
		header        nats.Header
		want          string
	}{
		{"a forbidden target", "rebound.submit.billing.charge", nats.Header{"ce-target": {"$JS.API.INFO"}}, "belongs to the server"},
		{"a wrong attempt", "rebound.submit.billing.charge", nats.Header{"ce-attempt": {"0"}}, "no whole number"},
		{"a wrong override", "rebound.submit.billing.charge", nats.Header{"ce-maxattempts": {"many"}}, "maxattempts"},
		{"a service name that starts with a dash", "rebound.submit.-x.charge", nil, "starts with a dash"},
	} {
		code, text := r.request(c.subject, c.header, []byte("x"), nil)
		if code != "400" || !strings.Contains(text, c.want) {
			t.Errorf("%s was answered with %s %q, want 400 saying %q", c.name, code, text, c.want)
		}
	}
	if n := r.count("RETRY_INTAKE", ">"); n != 0 {
		t.Errorf("%d refused submissions were stored", n)
	}
}

func TestEndpoints_SameSubmissionTwiceIsOne(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{})
	calls := r.target("billing.charge", func(int, micro.Request) (string, string, micro.Headers) { return "", "", nil })
	h := nats.Header{"ce-specversion": {"1.0"}, "ce-id": {"1"}, "ce-source": {"/s"}, "ce-type": {events.TypeFailed}}
	var first, second schemas.Submitted
	r.request("rebound.submit.billing.charge", h, []byte("x"), &first)
	r.request("rebound.submit.billing.charge", h, []byte("x"), &second)
	if first.ID != second.ID || first.Duplicate || !second.Duplicate {
		t.Errorf("answers are %+v and %+v, want the second to be a duplicate", first, second)
	}
	r.awaitOutcomes(1, 10*time.Second)
	r.awaitEmpty()
	if calls.Load() != 1 {
		t.Errorf("the target was called %d times, want once", calls.Load())
	}
}

func TestEndpoints_DeadLettersAreListedShownReplayedAndDiscarded(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{})
	r.target("billing.charge", func(int, micro.Request) (string, string, micro.Headers) { return "404", "no such order", nil })
	r.target("billing.refund", func(int, micro.Request) (string, string, micro.Headers) { return "422", "bad amount", nil })
	for range 3 {
		r.submit("retry.submit.billing.charge", nil, "x")
	}
	r.submit("retry.submit.billing.refund", nil, "y")
	r.awaitOutcomes(4, 10*time.Second)

	var list schemas.DeadList
	r.request("rebound.dead.list", nil, map[string]any{"operation": "charge", "limit": 2}, &list)
	if len(list.DeadLetters) != 2 || list.Next == 0 || list.DeadLetters[0].ErrorCode != "404" {
		t.Errorf("the first page is %+v, want 2 dead letters and a next", list)
	}
	var rest schemas.DeadList
	r.request("rebound.dead.list", nil, map[string]any{"operation": "charge", "after": list.Next}, &rest)
	if len(rest.DeadLetters) != 1 || rest.Next != 0 {
		t.Errorf("the second page is %+v, want 1 dead letter and no next", rest)
	}
	var byCode schemas.DeadList
	r.request("rebound.dead.list", nil, map[string]any{"errorCode": "422"}, &byCode)
	if len(byCode.DeadLetters) != 1 || byCode.DeadLetters[0].Operation != "refund" {
		t.Errorf("by error code 422 there is %+v, want the refund", byCode)
	}
	var shown events.DeadLetter
	r.request("rebound.dead.show", nil, schemas.DeadShow{ID: byCode.DeadLetters[0].ID}, &shown)
	if string(shown.Data) != "y" || shown.State == nil {
		t.Errorf("shown is %+v, want the payload y and the state", shown)
	}
	if code, _ := r.request("rebound.dead.show", nil, schemas.DeadShow{ID: strings.Repeat("0", 32)}, nil); code != "404" {
		t.Errorf("showing what is not there is answered with %q, want 404", code)
	}

	for what, body := range map[string]any{
		"no filter": map[string]any{}, "an unknown key": map[string]any{"servise": "billing"},
		"an unknown reason": map[string]any{"reason": "bored"}, "no JSON": []byte("{"),
	} {
		if code, text := r.request("rebound.dead.discard", nil, body, nil); code != "400" {
			t.Errorf("discarding with %s is answered with %q %q, want 400", what, code, text)
		}
	}
	var acted schemas.DeadActed
	r.request("rebound.dead.discard", nil, map[string]any{"operation": "charge", "dryRun": true}, &acted)
	if acted != (schemas.DeadActed{Matched: 3}) || len(r.deadLetters()) != 4 {
		t.Errorf("a dry run acted: %+v, %d left", acted, len(r.deadLetters()))
	}
	r.request("rebound.dead.discard", nil, map[string]any{"operation": "charge", "limit": 2}, &acted)
	if acted.Done != 2 || acted.Next == 0 || len(r.deadLetters()) != 2 {
		t.Errorf("discarding two acted %+v, %d left", acted, len(r.deadLetters()))
	}
	var replayed schemas.DeadActed
	r.request("rebound.dead.replay", nil, map[string]any{"all": true}, &replayed)
	if replayed.Done != 2 {
		t.Errorf("replaying all acted %+v, want 2 done", replayed)
	}
	r.awaitOutcomes(6, 10*time.Second)
	r.awaitEmpty()
}

func TestStatus_CountsWhatWaitsWhere(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{Policies: policySet(t, `
default: {maxAttempts: 2, baseDelay: 1h, maxDelay: 2h, jitterType: none}
`), Version: "1.2.3"})
	for range 3 {
		r.submit("retry.submit.billing.charge", nil, "x")
	}
	r.submit("retry.submit.billing.charge", map[string]string{"ce-attempt": "0"}, "x")
	r.awaitOutcomes(1, 10*time.Second)
	var got schemas.Status
	deadline := time.Now().Add(5 * time.Second)
	for got.Parked != 3 && time.Now().Before(deadline) {
		r.request("rebound.status", nil, nil, &got)
	}
	if got.Parked != 3 || got.Dead != 1 || got.Due != 0 || got.InFlight != 0 || got.Version != "1.2.3" || got.Server == "" {
		t.Errorf("status is %+v, want 3 parked, 1 dead", got)
	}
}

func TestEndpoints_AreShownByTheMicroFrameworkWithTheirSchemas(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{Version: "1.2.3"})
	var info micro.Info
	r.request("$SRV.INFO.rebound", nil, nil, &info)
	names := map[string]bool{}
	for _, e := range info.Endpoints {
		names[e.Subject] = true
		if !json.Valid([]byte(e.Metadata["schema.response"])) {
			t.Errorf("endpoint %s shows the response schema %q, which is no JSON", e.Name, e.Metadata["schema.response"])
		}
	}
	for _, want := range []string{"rebound.submit.*.*", "rebound.status", "rebound.health", "rebound.dead.list", "rebound.dead.show", "rebound.dead.replay", "rebound.dead.discard"} {
		if !names[want] {
			t.Errorf("endpoint %s is not shown; there are %v", want, names)
		}
	}
}

// TestEndpoints_RefuseWhatLeavesADoubt goes through all endpoints that the service shows: none
// acts on a request with something behind the JSON value, an unknown field or a name twice.
func TestEndpoints_RefuseWhatLeavesADoubt(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{})
	answer, err := r.nc.Request("$SRV.INFO.rebound", nil, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if len(answer.Data) > natsconn.MinPayload*3/4 {
		t.Errorf("the description of the service has %d bytes, want room below the smallest max_payload of %d", len(answer.Data), natsconn.MinPayload)
	}
	var info micro.Info
	if err := json.Unmarshal(answer.Data, &info); err != nil {
		t.Fatal(err)
	}
	if len(info.Endpoints) < 20 {
		t.Errorf("%d endpoints are shown, want at least 20", len(info.Endpoints))
	}
	envelope := nats.Header{"Content-Type": {"application/cloudevents+json"}}
	for _, e := range info.Endpoints {
		subject, h := strings.ReplaceAll(e.Subject, "*", "zzz"), nats.Header(nil)
		doubts := map[string]string{"{}]]]": "something follows", "{} {}": "something follows", `{"noSuchField":1}`: `unknown field "noSuchField"`, "{": "breaks off"}
		switch {
		case e.Name == "submit": // any payload is right, and any attribute
			const whole = `{"specversion":"1.0","id":"1","source":"/s","type":"rebound.operation.failed.v1","data":{}}`
			h = envelope
			doubts = map[string]string{whole + "]]]": "not valid JSON", whole + whole: "not valid JSON", strings.Replace(whole, `"id":"1"`, `"id":"1","id":"2"`, 1): `"id" stands twice`}
		case e.Metadata["schema.request"] != "":
			name := fieldOf(t, e.Metadata["schema.request"])
			doubts[fmt.Sprintf(`{%q:null,%q:null}`, name, name)] = fmt.Sprintf("%q stands twice", name)
		}
		for data, want := range doubts {
			if code, text := r.request(subject, h, []byte(data), nil); code != "400" || !strings.Contains(text, want) {
				t.Errorf("%s answers %s with %q %q, want 400 with %s", subject, data, code, text, want)
			}
		}
	}
	const doubtful = `{"key":"a:b"}]]]`
	r.request("rebound.breaker.trip", nil, []byte(doubtful), nil)
	if code, text := r.request("rebound.breaker.show", nil, map[string]string{"key": "a:b"}, nil); code != "404" {
		t.Errorf("after %s there is a breaker: %q %q, want 404", doubtful, code, text)
	}
	if n := r.count("RETRY_INTAKE", ">"); n != 0 {
		t.Errorf("%d refused submissions were stored, want 0", n)
	}
}

// fieldOf returns the name of a field of a request.
func fieldOf(t *testing.T, schema string) string {
	t.Helper()
	var s struct {
		Properties map[string]any `json:"properties"`
	}
	if err := json.Unmarshal([]byte(schema), &s); err != nil || len(s.Properties) == 0 {
		t.Fatalf("the schema of a request has no properties: %v: %s", err, schema)
	}
	return slices.Sorted(maps.Keys(s.Properties))[0]
}

func TestEndpoints_AreThoseOfTheirDeploymentOnly(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{}, handlers.Config{Prefix: "shop"}, handlers.Config{Prefix: "submit"})
	deployments := map[string]string{"rebound": "retry", "rebound-shop": "shop", "rebound-submit": "submit"}
	const requests = 3
	sent := map[string]int{}
	for name, prefix := range deployments {
		var info micro.Info
		r.request("$SRV.INFO."+name, nil, nil, &info)
		if info.Metadata["prefix"] != prefix {
			t.Errorf("%s is discovered with the prefix %q, want %q", name, info.Metadata["prefix"], prefix)
		}
		for _, e := range info.Endpoints {
			if !strings.HasPrefix(e.Subject, name+".") {
				t.Errorf("%s has the endpoint %s, want it under %s", name, e.Subject, name)
			}
			if e.QueueGroup != "" && (e.QueueGroup == "q") != (name == "rebound") {
				t.Errorf("endpoint %s is in queue group %q", e.Subject, e.QueueGroup)
			}
			subject := strings.ReplaceAll(e.Subject, "*", "zzz")
			for range requests {
				r.request(subject, nil, struct{}{}, nil)
			}
			sent[e.Subject] = requests
		}
	}
	for name := range deployments {
		var stats micro.Stats
		r.request("$SRV.STATS."+name, nil, nil, &stats)
		for _, e := range stats.Endpoints {
			if e.NumRequests != requests {
				t.Errorf("%s got %d requests, want the %d sent to it", e.Subject, e.NumRequests, requests)
			}
			delete(sent, e.Subject)
		}
	}
	if len(sent) > 0 {
		t.Errorf("nothing is known of the endpoints %v", sent)
	}
}

func TestEndpoints_PrefixOfEndpointsIsRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, prefix := range []string{"rebound", "rebound-shop"} {
		_, err := handlers.Start(t.Context(), r.nc, handlers.Config{Prefix: prefix})
		if err == nil || !strings.Contains(err.Error(), "is for endpoints") {
			t.Errorf("starting with prefix %s gives error %v, want one that it is for endpoints", prefix, err)
		}
	}
}
