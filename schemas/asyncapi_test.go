package schemas_test

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/schemas"
)

// asyncAPI returns the AsyncAPI document as JSON has it.
func asyncAPI(t *testing.T) map[string]any {
	t.Helper()
	var doc map[string]any
	if err := yaml.Unmarshal(schemas.AsyncAPI(), &doc); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestAsyncAPI_ConformsToVersion3(t *testing.T) {
	dir := t.TempDir()
	for _, args := range [][]string{
		{"npm", "pack", "--silent", "--pack-destination", dir, "@asyncapi/specs@6.11.1"},
		{"tar", "-xzf", filepath.Join(dir, "asyncapi-specs-6.11.1.tgz"), "-C", dir, "package/schemas/3.0.0.json"},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("fetching the schema of AsyncAPI: %q: %v\n%s", args, err, out)
		}
	}
	f, err := os.Open(filepath.Join(dir, "package/schemas/3.0.0.json"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	specification, err := jsonschema.UnmarshalJSON(f)
	if err != nil {
		t.Fatal(err)
	}
	const location = "http://asyncapi.com/definitions/3.0.0/asyncapi.json"
	c := jsonschema.NewCompiler()
	c.UseLoader(jsonschema.SchemeURLLoader{})
	if err := c.AddResource(location, specification); err != nil {
		t.Fatal(err)
	}
	compiled, err := c.Compile(location)
	if err != nil {
		t.Fatal(err)
	}
	doc := asyncAPI(t)
	if err := compiled.Validate(doc); err != nil {
		t.Errorf("%v", err)
	}

	delete(doc, "info")
	if err := compiled.Validate(doc); err == nil {
		t.Error("the specification's schema accepts a document without info, so it checks nothing")
	}
}

// resolve follows a reference within the document or into a schema file. It
// returns nil when there is nothing.
func resolve(t *testing.T, doc map[string]any, ref string) any {
	t.Helper()
	file, path, _ := strings.Cut(ref, "#")
	var node any = doc
	if file != "" {
		name, ok := strings.CutPrefix(file, "./")
		if !ok || !strings.HasSuffix(name, ".json") {
			t.Errorf("reference %s is to no schema file beside the document", ref)
			return nil
		}
		node = schema(t, name)
	}
	for _, token := range strings.Split(path, "/")[1:] {
		node = asObject(node)[token]
	}
	return node
}

// eachReference calls do with every $ref within value, with where it stands.
func eachReference(value any, path string, do func(path, ref string)) {
	switch value := value.(type) {
	case map[string]any:
		for k, v := range value {
			if ref, ok := v.(string); ok && k == "$ref" {
				do(path, ref)
				continue
			}
			eachReference(v, path+"/"+k, do)
		}
	case []any:
		for _, v := range value {
			eachReference(v, path, do)
		}
	}
}

func TestAsyncAPI_EveryReferenceResolves(t *testing.T) {
	doc := asyncAPI(t)
	used := map[string]bool{}
	eachReference(doc, "", func(path, ref string) {
		used[ref] = true
		if resolve(t, doc, ref) == nil {
			t.Errorf("%s refers to %s, which does not exist", path, ref)
		}
	})
	for _, name := range schemas.Names() {
		if !used["./"+name+".json"] {
			t.Errorf("no message has the schema %s", name)
		}
	}
	for kind, components := range asObject(doc["components"]) {
		for name := range asObject(components) {
			if !used["#/components/"+kind+"/"+name] {
				t.Errorf("component %s/%s is not used", kind, name)
			}
		}
	}
}

// references returns the targets of a list of references.
func references(v any) []string {
	var out []string
	eachReference(v, "", func(_, ref string) { out = append(out, ref) })
	return out
}

func TestAsyncAPI_OperationsUseMessagesOfTheirChannels(t *testing.T) {
	doc := asyncAPI(t)
	used := map[string]bool{}
	uses := func(name string, part map[string]any) {
		channel := references(part["channel"])
		messages := references(part["messages"])
		if len(channel) != 1 || len(messages) == 0 {
			t.Errorf("%s has channels %v and messages %v", name, channel, messages)
			return
		}
		used[channel[0]] = true
		for _, m := range messages {
			if !strings.HasPrefix(m, channel[0]+"/messages/") {
				t.Errorf("%s uses %s, which is not of %s", name, m, channel[0])
			}
			used[m] = true
		}
	}
	for name, operation := range asObject(doc["operations"]) {
		uses(name, asObject(operation))
		if reply := asObject(operation)["reply"]; reply != nil {
			uses(name+"'s reply", asObject(reply))
		}
	}
	for name, channel := range asObject(doc["channels"]) {
		if !used["#/channels/"+name] {
			t.Errorf("no operation uses channel %s", name)
		}
		for message := range asObject(asObject(channel)["messages"]) {
			if !used["#/channels/"+name+"/messages/"+message] {
				t.Errorf("no operation uses message %s of channel %s", message, name)
			}
		}
	}
}

var expression = regexp.MustCompile(`\{(\w+)\}`)

func TestAsyncAPI_AddressesAreTheSubjectsOfTheContract(t *testing.T) {
	subjects := events.Subjects{}
	const s, o = "{service}", "{operation}"
	want := map[string]string{
		"submissions":         subjects.Submit(s, o),
		"health":              subjects.Health(s),
		"reports":             subjects.Report(s, o),
		"retrySuccess":        subjects.Outcome(events.RetrySuccess, s, o),
		"retryFailed":         subjects.Outcome(events.RetryFailed, s, o),
		"retryScheduled":      subjects.Event(events.RetryScheduled, s, o),
		"breakerChanged":      subjects.Event(events.BreakerChanged, s, o),
		"backpressureChanged": subjects.Backpressure(),
		"deadLetters":         subjects.Dead(s, o, "{id}"),
		"targets":             "{target}",
		"submit":              "rebound.submit." + s + "." + o,
		"report":              "rebound.report." + s + "." + o,
		"status":              "rebound.status",
		"healthOfServices":    "rebound.health",
		"coordination":        "rebound.coordination",
		"breakerList":         "rebound.breaker.list",
		"breakerShow":         "rebound.breaker.show",
		"breakerTrip":         "rebound.breaker.trip",
		"breakerHold":         "rebound.breaker.hold",
		"breakerReset":        "rebound.breaker.reset",
		"keyFind":             "rebound.key.find",
		"pauseChanged":        subjects.PauseChanges(),
		"pause":               "rebound.pause",
		"resume":              "rebound.resume",
		"pauseList":           "rebound.pause.list",
		"policyShow":          "rebound.policy.show",
		"policyCheck":         "rebound.policy.check",
		"policyExplain":       "rebound.policy.explain",
		"policyApply":         "rebound.policy.apply",
		"policyHistory":       "rebound.policy.history",
		"policyRollback":      "rebound.policy.rollback",
		"adoptAdd":            "rebound.adopt.add",
		"adoptList":           "rebound.adopt.list",
		"adoptRemove":         "rebound.adopt.remove",
		"deadList":            "rebound.dead.list",
		"deadShow":            "rebound.dead.show",
		"deadReplay":          "rebound.dead.replay",
		"deadDiscard":         "rebound.dead.discard",
	}
	doc := asyncAPI(t)
	for name, c := range asObject(doc["channels"]) {
		channel := asObject(c)
		address, known := channel["address"].(string)
		if known != (want[name] != "") || address != want[name] {
			t.Errorf("channel %s has the address %q, want %q", name, address, want[name])
		}
		matches := expression.FindAllStringSubmatch(address, -1)
		inAddress := make([]string, len(matches))
		for i, m := range matches {
			inAddress[i] = m[1]
		}
		slices.Sort(inAddress)
		described := slices.Sorted(maps.Keys(asObject(channel["parameters"])))
		if !slices.Equal(inAddress, described) {
			t.Errorf("channel %s has %v in its address and describes %v", name, inAddress, described)
		}
		delete(want, name)
	}
	for name := range want {
		t.Errorf("channel %s is missing", name)
	}
}

func TestAsyncAPI_EventsBearTheNamesOfTheirTypes(t *testing.T) {
	doc := asyncAPI(t)
	for _, name := range []string{events.RetrySuccess, events.RetryFailed, events.RetryScheduled, events.BreakerChanged, events.BackpressureChanged, events.PauseChanged, "health", "report"} {
		message := asObject(resolve(t, doc, "#/components/messages/"+name))
		if message["name"] != events.EventType(name) {
			t.Errorf("message %s has the name %v", name, message["name"])
		}
		if got := references(message["payload"]); !slices.Equal(got, []string{"./" + events.EventType(name) + ".json"}) {
			t.Errorf("message %s has the payload %v", name, got)
		}
	}
}

// wantHeaders insists that headers conform to their schema in the document, and
// that the schema knows those of Rebound and of CloudEvents among them.
func wantHeaders(t *testing.T, name string, h nats.Header) {
	t.Helper()
	doc := asyncAPI(t)
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("asyncapi.json", doc); err != nil {
		t.Fatal(err)
	}
	compiled, err := c.Compile("asyncapi.json#/components/schemas/" + name)
	if err != nil {
		t.Fatal(err)
	}
	known := asObject(asObject(resolve(t, doc, "#/components/schemas/"+name))["properties"])
	values := map[string]any{}
	for k, v := range h {
		values[k] = v[0]
		carried := strings.HasPrefix(k, "ce-") && name != "eventHeaders"
		if known[k] == nil && !carried {
			t.Errorf("%s does not know %s", name, k)
		}
	}
	if err := compiled.Validate(values); err != nil {
		t.Errorf("%v\n%v", err, h)
	}
	for k := range known {
		if _, ok := h[k]; !ok && strings.HasPrefix(k, "Retry-") {
			t.Errorf("%s knows %s, which is never set", name, k)
		}
	}
}

func TestAsyncAPI_HeadersAreThoseOfTheContract(t *testing.T) {
	o, err := wire.DecodeSubmission(events.Subjects{}, wire.Submission{
		Subject: "retry.submit.billing.charge", Data: []byte(`{}`), Name: "s-1", Received: now,
		Header: nats.Header{"ce-deadline": {"2026-03-02T00:00:00Z"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	o.Replay = 1
	o.Origin = &events.Origin{Stream: "ORDERS", Consumer: "worker", Sequence: 17, Subject: "orders.new"}
	t.Run("of an event", func(t *testing.T) {
		out := o.Ended(events.RetrySuccess, now)
		msg := wantValid(t, "retry.outcome.retrySuccess.billing.charge", events.RetrySuccess, out.About, out)
		wantHeaders(t, "eventHeaders", msg.Header)
	})
	t.Run("of a redelivery", func(t *testing.T) {
		wantHeaders(t, "redeliveryHeaders", wire.TargetHeader(o, nil, 2, true))
	})
	t.Run("of an operation for a worker", func(t *testing.T) {
		given := *o
		given.Work = &events.Work{Token: "secret", Attempt: 2, Target: "retry.work.billing.charge", Started: now}
		wantHeaders(t, "workHeaders", wire.WorkHeader(&given, nil, events.Subjects{}, 30*time.Second))
	})
	t.Run("of a report", func(t *testing.T) {
		report := events.Report{ID: o.ID, Attempt: 2, Token: "secret", Result: events.Failed, Code: "503", Error: "busy", RetryAfterMs: 1500}
		msg, err := wire.EncodeReport("retry.report.billing.charge", report, wire.Envelope{Source: "/worker", ID: "1", Time: now})
		if err != nil {
			t.Fatal(err)
		}
		if err := schemas.Validate(events.TypeReport, msg.Data); err != nil {
			t.Errorf("%v\n%s", err, msg.Data)
		}
		wantHeaders(t, "reportHeaders", msg.Header)
	})
	t.Run("of a dead letter", func(t *testing.T) {
		d := events.DeadLetter{
			ID: o.ID, Service: o.Service, Operation: o.Operation, Reason: events.ReasonExhausted, Detail: "all attempts were made",
			DiedAt: now, SubmittedTo: "retry.submit.billing.charge", Truncated: 9, State: o,
		}
		msg, err := wire.EncodeDeadLetter(events.Subjects{}, &d)
		if err != nil {
			t.Fatal(err)
		}
		wantHeaders(t, "deadLetterHeaders", msg.Header)
	})
	t.Run("of a health report", func(t *testing.T) {
		queue := 3
		msg, err := wire.EncodeHealth(events.Subjects{}, "pool", events.HealthReport{QueueLength: &queue}, wire.Envelope{Source: "/pool", ID: "1", Time: now})
		if err != nil {
			t.Fatal(err)
		}
		wantHeaders(t, "healthHeaders", msg.Header)
	})
	t.Run("of a submission", func(t *testing.T) {
		known := asObject(asObject(resolve(t, asyncAPI(t), "#/components/schemas/submissionHeaders"))["properties"])
		attributes := asObject(schema(t, submission)["properties"])
		for header := range known {
			if attributes[strings.TrimPrefix(header, "ce-")] == nil {
				t.Errorf("header %s is no attribute", header)
			}
		}
	})
}
