package schemas_test

import (
	"encoding"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"pgregory.net/rapid"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/scheduler/policy"
	"github.com/rebound-mq/rebound/schemas"
)

// fields returns the JSON properties of a struct with their types, and those of them
// that are always there.
func fields(t reflect.Type) (all map[string]reflect.Type, always []string) {
	all = make(map[string]reflect.Type)
	for _, f := range reflect.VisibleFields(t) {
		tag := f.Tag.Get("json")
		name, options, _ := strings.Cut(tag, ",")
		if f.Anonymous && tag == "" || !f.IsExported() || tag == "-" {
			continue
		}
		if name == "" {
			name = f.Name
		}
		all[name] = f.Type
		if !strings.Contains(options, "omit") {
			always = append(always, name)
		}
	}
	return all, always
}

// at returns a part of a schema by its JSON pointer.
func at(t *testing.T, name, path string) map[string]any {
	t.Helper()
	node := schema(t, name)
	for _, token := range strings.Split(path, "/")[1:] {
		node = asObject(node[token])
	}
	if node == nil {
		t.Fatalf("schema %s has no %s", name, path)
	}
	return node
}

func without(all []string, names ...string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(s string) bool { return slices.Contains(names, s) })
}

// root is the Go type of the documents that a schema describes.
type root struct {
	of reflect.Type
	// none says why no type has the schema's properties, empty when of has.
	none string
}

func typed[T any]() root { return root{of: reflect.TypeFor[T]()} }

// roots has the Go type of every schema.
var roots = map[string]root{
	"adoptAdd.request": typed[schemas.AdoptAdd](), "adoptAdded.response": typed[schemas.AdoptAdded](),
	"adoptList.response": typed[schemas.AdoptList](), "adoptRemove.request": typed[schemas.AdoptRemove](), "adoptRemoved.response": typed[schemas.AdoptRemove](),
	"breakerAct.request": typed[schemas.BreakerAct](), "breakerAct.response": typed[schemas.BreakerActed](),
	"breakerList.request": typed[schemas.BreakerQuery](), "breakerList.response": typed[schemas.BreakerList](),
	"breakerShow.request": typed[schemas.BreakerShow](), "breakerShow.response": typed[schemas.BreakerShown](),
	"coordination.response": typed[schemas.Coordination](),
	"deadAct.request":       typed[schemas.DeadAct](), "deadAct.response": typed[schemas.DeadActed](), "deadLetter": typed[events.DeadLetter](),
	"deadList.request": typed[events.DeadLetterFilter](), "deadList.response": typed[schemas.DeadList](), "deadShow.request": typed[schemas.DeadShow](),
	"error.response": typed[schemas.Error](),
	"health.request": typed[schemas.HealthQuery](), "health.response": typed[schemas.Health](),
	"keyFind.request": typed[schemas.KeyQuery](), "keyFind.response": typed[schemas.KeyFound](),
	"pauseAdd.request": typed[schemas.PauseAdd](), "pauseAdded.response": typed[schemas.PauseAdded](),
	"pauseEnd.request": typed[schemas.PauseEnd](), "pauseEnded.response": typed[schemas.PauseEnded](), "pauseList.response": typed[schemas.PauseList](),
	"rebound.pauseChanged.v1": typed[events.PauseChange](),
	"policyApplied.response":  typed[schemas.PolicyApplied](), "policyCheck.response": typed[schemas.PolicyCheck](),
	"policyExplain.request": typed[schemas.PolicyQuery](), "policyExplain.response": typed[policy.Explanation](),
	"policyHistory.response": typed[schemas.PolicyHistory](), "policyRollback.request": typed[schemas.PolicyRollback](),
	"policyShow.response": typed[schemas.PolicyShow](), "policySource.request": typed[schemas.PolicySource](),
	"rebound.backpressureChanged.v1": typed[events.BackpressureChange](), "rebound.breakerChanged.v1": typed[events.BreakerChange](),
	"rebound.health.v1": typed[events.HealthReport](), "rebound.report.v1": typed[events.Report](),
	"rebound.operation.failed.v1": {none: "it describes a CloudEvent, which the decoder reads attribute by attribute; see submission_test.go"},
	"rebound.retryFailed.v1":      typed[events.Outcome](), "rebound.retrySuccess.v1": typed[events.Outcome](), "rebound.retryScheduled.v1": typed[events.Scheduled](),
	"reported.response": typed[schemas.Reported](), "status.response": typed[schemas.Status](), "submitted": typed[schemas.Submitted](),
}

// exceptions say, by the pointer of an object, in what its type differs: properties that
// it has and the schema does not, and those that the schema requires although the type
// may omit them.
var exceptions = map[string]struct{ fewer, required []string }{
	"rebound.retrySuccess.v1#":        {fewer: []string{"reason", "detail", "error", "class", "rule", "deadLetter"}},
	"rebound.retryFailed.v1#":         {required: []string{"reason"}},
	"rebound.backpressureChanged.v1#": {required: []string{"since"}},
}

func TestSchemas_EachAgreesWithItsType(t *testing.T) {
	if names := slices.Sorted(maps.Keys(roots)); !slices.Equal(names, schemas.Names()) {
		t.Fatalf("there are types for %v, and the schemas are %v", names, schemas.Names())
	}
	a := agreement{t: t}
	for name, root := range roots {
		if root.none == "" {
			document := schema(t, name)
			a.compare(document, document, root.of, name+"#")
		}
	}
	if a.objects < 60 {
		t.Errorf("only %d objects were compared", a.objects)
	}
}

// agreement compares schemas with Go types.
type agreement struct {
	t       *testing.T
	objects int
}

// compare compares a node of a document with a type, and so on downwards.
func (a *agreement) compare(document, node map[string]any, of reflect.Type, path string) {
	if ref, ok := node["$ref"].(string); ok {
		node = document
		for _, token := range strings.Split(ref, "/")[1:] {
			node = asObject(node[token])
		}
	}
	if of.Kind() == reflect.Pointer {
		of = of.Elem()
	}
	switch {
	case isText(of):
	case of.Kind() == reflect.Slice:
		if items := asObject(node["items"]); items != nil {
			a.compare(document, items, of.Elem(), path+"/items")
		}
	case of.Kind() == reflect.Map:
		if values := asObject(node["additionalProperties"]); values != nil {
			a.compare(document, values, of.Elem(), path+"/additionalProperties")
		}
	case of.Kind() == reflect.Struct:
		a.object(document, node, of, path)
	}
}

// isText reports whether a type writes itself into JSON, not its fields.
func isText(t reflect.Type) bool {
	return t.Implements(reflect.TypeFor[json.Marshaler]()) || t.Implements(reflect.TypeFor[encoding.TextMarshaler]())
}

// object compares the properties of an object with the fields of a struct.
func (a *agreement) object(document, node map[string]any, of reflect.Type, path string) {
	a.objects++
	all, always := fields(of)
	except := exceptions[path]
	properties := asObject(node["properties"])
	want := without(slices.Sorted(maps.Keys(all)), except.fewer...)
	if got := slices.Sorted(maps.Keys(properties)); !slices.Equal(got, want) {
		a.t.Errorf("%s: the schema knows %v\n%s has %v", path, got, of, want)
	}
	want = slices.Sorted(slices.Values(append(always, except.required...)))
	var got []string
	required, _ := node["required"].([]any)
	for _, name := range required {
		got = append(got, name.(string))
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		a.t.Errorf("%s: the schema requires %v\n%s always has %v", path, got, of, want)
	}
	for name, property := range properties {
		if field, ok := all[name]; ok {
			a.compare(document, asObject(property), field, path+"/"+name)
		}
	}
}

func TestBreakerChange_HasTheFieldsOfASummary(t *testing.T) {
	// What the event calls otherwise, empty for what it does not tell.
	otherwise := map[string]string{
		"serviceKey": "key", "state": "to", "changedAt": "at", "averageResponseTime": "averageResponseTimeMs", "halfOpenSuccesses": "", "changedBy": "", "operated": "",
	}
	event, _ := fields(reflect.TypeFor[events.BreakerChange]())
	summary, _ := fields(reflect.TypeFor[breaker.Summary]())
	for name, want := range summary {
		attribute := name
		if other, ok := otherwise[name]; ok {
			attribute = other
		}
		if got := event[attribute]; attribute != "" && (got == nil || got.Kind() != want.Kind() && !isText(want)) {
			t.Errorf("%s of a breaker is %s, and the event has it as %v", name, want, got)
		}
	}
}

func TestSchemas_PropertiesOfTheSameNameAreDescribedAlike(t *testing.T) {
	about, _ := fields(reflect.TypeFor[events.About]())
	want := asObject(at(t, "rebound.retryScheduled.v1", "")["properties"])
	for _, name := range []string{"rebound.retrySuccess.v1", "rebound.retryFailed.v1", "deadLetter"} {
		path := ""
		if name == "deadLetter" {
			path = "/$defs/operation"
		}
		got := asObject(at(t, name, path)["properties"])
		for property := range about {
			if name == "rebound.retryFailed.v1" && (property == "service" || property == "operation") {
				continue // They may be -invalid- there.
			}
			if !reflect.DeepEqual(got[property], want[property]) {
				t.Errorf("%s of %s differs from that of retryScheduled", property, name)
			}
		}
	}
}

func TestSchemas_StatusAndCoordinationDescribeTheInstancesAlike(t *testing.T) {
	status := asObject(at(t, "status.response", "/properties/retryCoordination")["properties"])
	for name, got := range asObject(at(t, "coordination.response", "")["properties"]) {
		if want := status[name]; want != nil && !reflect.DeepEqual(got, want) {
			t.Errorf("%s of coordination.response differs from that of status.response", name)
		}
	}
}

func TestSchemas_ListsOfWordsAreThoseOfTheTypes(t *testing.T) {
	reasons := make([]any, len(events.Reasons))
	for i, r := range events.Reasons {
		reasons[i] = string(r)
	}
	priorities := make([]any, len(events.Priorities))
	for i, p := range events.Priorities {
		priorities[i] = p.String()
	}
	for _, name := range schemas.Names() {
		eachNode(schema(t, name), "", func(path string, node map[string]any) {
			for property, want := range map[string][]any{"reason": reasons, "priority": priorities} {
				child := asObject(asObject(node["properties"])[property])
				got, _ := child["enum"].([]any)
				if name == "rebound.operation.failed.v1" {
					got = slices.DeleteFunc(got, func(v any) bool { return v == "" })
				}
				if child != nil && !slices.Equal(got, want) {
					t.Errorf("%s%s/%s lists %v, want %v", name, path, property, got, want)
				}
			}
		})
	}
}

var (
	now   = time.Date(2026, 3, 1, 12, 0, 0, 123_456_789, time.UTC)
	about = events.About{
		ID: events.OperationID("/s", "1", "billing", "charge"), EventID: "1", Source: "/s",
		Service: "billing", Operation: "charge", Priority: "normal",
	}
)

// wantValid insists that the data of an event of ours conforms to its schema.
func wantValid(t rapid.TB, subject, name string, about events.About, data any) *nats.Msg {
	t.Helper()
	msg, err := wire.EncodeEvent(subject, wire.Event{Name: name, ID: "an-id", About: about, Time: now, Data: data})
	if err != nil {
		t.Fatal(err)
	}
	if err := schemas.Validate(events.EventType(name), msg.Data); err != nil {
		t.Errorf("%v\n%s", err, msg.Data)
	}
	return msg
}

func TestValidate_OutcomesOfEveryReasonConform(t *testing.T) {
	op := &events.Operation{ID: about.ID, EventID: "1", Source: "/s", Service: "billing", Operation: "charge", Attempt: 1, FirstFailure: now}
	success := op.Ended(events.RetrySuccess, now.Add(time.Second))
	wantValid(t, "retry.outcome.retrySuccess.billing.charge", events.RetrySuccess, success.About, success)
	for _, reason := range events.Reasons {
		failed := op.Ended(events.RetryFailed, now.Add(time.Second))
		failed.Reason, failed.Detail = reason, "in a sentence"
		failed.DeadLetter = events.Subjects{}.Dead("billing", "charge", op.ID)
		if reason != events.ReasonRejected {
			failed.Error = &events.Failure{Code: "503", Message: "away"}
			failed.Class, failed.Rule = "retryable", "503"
		}
		wantValid(t, "retry.outcome.retryFailed.billing.charge", events.RetryFailed, failed.About, failed)
	}
}

func TestValidate_OutcomeOfAnUnreadableSubmissionConforms(t *testing.T) {
	op := &events.Operation{
		ID: events.OperationID("rejected", "RETRY_INTAKE-1", events.Invalid, events.Invalid), EventID: "RETRY_INTAKE-1", Source: "/rejected",
		Service: events.Invalid, Operation: events.Invalid, FirstFailure: now, Submitted: now,
	}
	failed := op.Ended(events.RetryFailed, now)
	failed.Reason, failed.Detail = events.ReasonRejected, "it needs two tokens"
	wantValid(t, "retry.outcome.retryFailed.-invalid-.-invalid-", events.RetryFailed, failed.About, failed)
}

func TestValidate_OutcomeConformsToTheSchemaOfItsNameOnly(t *testing.T) {
	op := &events.Operation{ID: about.ID, EventID: "1", Source: "/s", Service: "billing", Operation: "charge", Attempt: 1, FirstFailure: now}
	success := op.Ended(events.RetrySuccess, now)
	failed := op.Ended(events.RetryFailed, now)
	failed.Reason = events.ReasonExhausted
	for name, data := range map[string]any{"rebound.retryFailed.v1": success, "rebound.retrySuccess.v1": failed} {
		doc, _ := json.Marshal(data)
		if err := schemas.Validate(name, doc); err == nil {
			t.Errorf("the other outcome conforms to %s: %s", name, doc)
		}
	}
}

func TestValidate_ScheduledWithEveryFactorConforms(t *testing.T) {
	event := events.Scheduled{
		About: about, Attempt: 2, Error: events.Failure{Code: "503", Message: "away"}, DurationMs: 12.5, Class: "retryable", Rule: "503",
		DelayMs: 1500, Due: now, Strategy: "adaptive_exponential", Confidence: 0.85,
		Factors: map[string]float64{
			"health": 1.4, "successRate": 1.15, "responseTime": 1, "cpu": 1, "memory": 1, "pool": 1, "queue": 1, "load": 1, "priority": 0.8,
		},
	}
	wantValid(t, "retry.event.retryScheduled.billing.charge", events.RetryScheduled, about, event)
	wantValid(t, "retry.event.retryScheduled.billing.charge", events.RetryScheduled, about, events.Scheduled{
		About: about, Attempt: 1, Class: "retryable", Due: now, Strategy: "fixed",
	})
}

func TestValidate_ClippedErrorConformsAndNoLongerOne(t *testing.T) {
	o := &events.Operation{ID: about.ID, EventID: "1", Source: "/s", Service: "billing", Operation: "charge", Attempt: 1, FirstFailure: now, Submitted: now}
	o.Record(events.Attempt{Number: 1, At: now, Code: strings.Repeat("c", 1000), Error: strings.Repeat("e", 1000)})
	d := events.DeadLetter{ID: o.ID, Service: "billing", Operation: "charge", Reason: events.ReasonExhausted, DiedAt: now, Sequence: 1, State: o}
	doc, _ := json.Marshal(d)
	if err := schemas.Validate("deadLetter", doc); err != nil {
		t.Error(err)
	}
	o.History[0].Code += "x"
	o.History[0].Error += "x"
	doc, _ = json.Marshal(d)
	wantIssue(t, "deadLetter", doc, "/state/history/0/code", "has 130 characters, more than 129")
	wantIssue(t, "deadLetter", doc, "/state/history/0/error", "has 258 characters, more than 257")
}

// What follows draws valid values.

func text(limit int) *rapid.Generator[string] { return rapid.StringN(1, -1, limit) }

func optional(limit int) *rapid.Generator[string] { return rapid.StringN(0, -1, limit) }

func moment() *rapid.Generator[time.Time] {
	return rapid.Custom(func(t *rapid.T) time.Time {
		return time.Unix(rapid.Int64Range(0, 16_000_000_000).Draw(t, "seconds"), rapid.Int64Range(0, 999_999_999).Draw(t, "nanoseconds")).UTC()
	})
}

func milliseconds() *rapid.Generator[float64] {
	return rapid.Custom(func(t *rapid.T) float64 {
		return events.InMilliseconds(time.Duration(rapid.Int64Range(0, int64(1000*time.Hour)).Draw(t, "duration")))
	})
}

func class() *rapid.Generator[string] {
	return rapid.SampledFrom([]string{"retryable", "not_retryable"})
}

const namePattern = `[A-Za-z0-9_][A-Za-z0-9_-]{0,63}`

// operation draws an operation as decoding, attempts and replays leave it.
func operation() *rapid.Generator[*events.Operation] {
	return rapid.Custom(func(t *rapid.T) *events.Operation {
		o := &events.Operation{
			EventID: text(events.MaxAttribute).Draw(t, "event id"), Source: text(events.MaxAttribute).Draw(t, "source"),
			Type: optional(events.MaxAttribute).Draw(t, "type"), Subject: optional(events.MaxAttribute).Draw(t, "subject"),
			Service: rapid.StringMatching(namePattern).Draw(t, "service"), Operation: rapid.StringMatching(namePattern).Draw(t, "operation"),
			Account: optional(events.MaxAttribute).Draw(t, "account"), Campaign: optional(events.MaxAttribute).Draw(t, "campaign"),
			TraceParent: optional(64).Draw(t, "traceparent"), Target: optional(255).Draw(t, "target"),
			Delivery: events.Request, Priority: rapid.SampledFrom(events.Priorities[:]).Draw(t, "priority"),
			PriorityGiven: rapid.Bool().Draw(t, "priority given"),
			Overrides:     rapid.MapOfN(rapid.SampledFrom([]string{"maxattempts", "basedelay"}), optional(64), 0, 2).Draw(t, "overrides"),
			Attempt:       rapid.IntRange(1, 1<<31-1).Draw(t, "attempt"), Replay: rapid.IntRange(0, 3).Draw(t, "replay"),
			FirstFailure: moment().Draw(t, "first failure"), Submitted: moment().Draw(t, "submitted"),
			RuleUses: rapid.MapOfN(text(20), rapid.IntRange(1, 5), 0, 2).Draw(t, "rule uses"),
		}
		if rapid.Bool().Draw(t, "has an origin") {
			o.Origin = &events.Origin{
				Stream: text(20).Draw(t, "stream"), Consumer: text(20).Draw(t, "consumer"),
				Sequence: rapid.Uint64Range(1, 1<<53).Draw(t, "origin sequence"), Subject: optional(20).Draw(t, "origin subject"),
			}
		}
		for _, at := range []*time.Time{&o.RetryAfter, &o.Deadline, &o.Due} {
			if rapid.Bool().Draw(t, "has a time") {
				*at = moment().Draw(t, "time")
			}
		}
		o.ID = events.OperationID(o.Source, o.EventID, o.Service, o.Operation)
		for i := range rapid.IntRange(0, events.MaxHistory+4).Draw(t, "history") {
			o.Record(events.Attempt{
				Number: i + 1, At: moment().Draw(t, "at"), DurationMs: milliseconds().Draw(t, "duration"),
				Code: optional(200).Draw(t, "code"), Error: optional(400).Draw(t, "error"),
				Class: rapid.SampledFrom([]string{"", "retryable", "not_retryable"}).Draw(t, "class"), Rule: optional(20).Draw(t, "rule"),
				DelayMs: milliseconds().Draw(t, "delay"), Strategy: rapid.SampledFrom([]string{"", "fixed", "adaptive_linear"}).Draw(t, "strategy"),
				Repeated: rapid.Bool().Draw(t, "repeated"),
			})
		}
		return o
	})
}

func TestValidate_AnyOutcomeConforms(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := operation().Draw(t, "operation")
		ended := moment().Draw(t, "ended")
		name := rapid.SampledFrom([]string{events.RetrySuccess, events.RetryFailed}).Draw(t, "name")
		out := o.Ended(name, ended)
		out.Target, out.DurationMs = optional(255).Draw(t, "target"), milliseconds().Draw(t, "duration")
		if name == events.RetryFailed {
			out.Reason, out.Detail = rapid.SampledFrom(events.Reasons[:]).Draw(t, "reason"), optional(1000).Draw(t, "detail")
			if rapid.Bool().Draw(t, "has an error") {
				out.Error = &events.Failure{Code: optional(500).Draw(t, "code"), Message: optional(9000).Draw(t, "message")}
				out.Class, out.Rule = class().Draw(t, "class"), optional(20).Draw(t, "rule")
			}
			out.DeadLetter = events.Subjects{}.Dead(o.Service, o.Operation, o.ID)
		}
		wantValid(t, "s", name, out.About, out)
	})
}

func TestValidate_AnyDecisionConforms(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := operation().Draw(t, "operation")
		wantValid(t, "s", events.RetryScheduled, o.About(), events.Scheduled{
			About: o.About(), Attempt: o.Attempt,
			Error:      events.Failure{Code: optional(500).Draw(t, "code"), Message: optional(9000).Draw(t, "message")},
			DurationMs: milliseconds().Draw(t, "duration"), Class: class().Draw(t, "class"), Rule: optional(20).Draw(t, "rule"),
			DelayMs: milliseconds().Draw(t, "delay"), Due: moment().Draw(t, "due"),
			Strategy: text(30).Draw(t, "strategy"), Confidence: rapid.Float64Range(0, 1).Draw(t, "confidence"),
			Factors: rapid.MapOfN(text(20), rapid.Float64Range(0, 1e6), 0, 9).Draw(t, "factors"),
		})
	})
}

func TestValidate_AnyDeadLetterConformsOnceStoredAndRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := operation().Draw(t, "operation")
		d := events.DeadLetter{
			ID: o.ID, Service: o.Service, Operation: o.Operation,
			Reason: rapid.SampledFrom(events.Reasons[:]).Draw(t, "reason"), Detail: optional(2000).Draw(t, "detail"),
			DiedAt: moment().Draw(t, "died at"), SubmittedTo: events.Subjects{}.Submit(o.Service, o.Operation),
			Truncated: rapid.IntRange(0, 9).Draw(t, "truncated"),
			Header:    rapid.MapOfN(rapid.StringMatching(`[A-Za-z-]{1,20}`), rapid.SliceOfN(optional(50), 1, 3), 0, 4).Draw(t, "header"),
			Data:      rapid.SliceOf(rapid.Byte()).Draw(t, "data"),
		}
		if rapid.Bool().Draw(t, "has a state") {
			d.State = o
		} else if rapid.Bool().Draw(t, "could not be read") {
			d.Service, d.Operation = events.Invalid, events.Invalid
		}
		m, err := wire.EncodeDeadLetter(events.Subjects{}, &d)
		if err != nil {
			t.Fatal(err)
		}
		stored, err := wire.DecodeDeadLetter(m.Subject, rapid.Uint64Min(1).Draw(t, "sequence"), m.Header, m.Data)
		if err != nil {
			t.Fatal(err)
		}
		doc, err := json.Marshal(stored)
		if err != nil {
			t.Fatal(err)
		}
		if err := schemas.Validate("deadLetter", doc); err != nil {
			t.Errorf("%v\n%s", err, doc)
		}
	})
}

func TestValidate_AnyAcceptedFilterConforms(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.OneOf(rapid.Just(""), rapid.StringMatching(namePattern), rapid.Just(events.Invalid), rapid.String())
		f := events.DeadLetterFilter{
			IDs:       rapid.SliceOfN(rapid.OneOf(rapid.StringMatching(`[0-9a-f]{32}`), rapid.StringN(0, 33, -1)), 0, 3).Draw(t, "ids"),
			Service:   word.Draw(t, "service"),
			Operation: word.Draw(t, "operation"),
			Reason:    events.Reason(rapid.SampledFrom([]string{"", "exhausted", "rejected", "tired"}).Draw(t, "reason")),
			ErrorCode: optional(20).Draw(t, "error code"),
			After:     rapid.Uint64().Draw(t, "after"),
			Limit:     rapid.IntRange(-1, 1000).Draw(t, "limit"),
		}
		doc, err := json.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		accepted, conforms := f.Check(), schemas.Validate("deadList.request", doc)
		if (accepted == nil) != (conforms == nil) {
			t.Errorf("the filter's own check says %v, the schema says %v\n%s", accepted, conforms, doc)
		}
	})
}

func TestValidate_HealthReportConformsExactlyWhenItIsAccepted(t *testing.T) {
	names := slices.Collect(maps.Keys(asObject(at(t, "rebound.health.v1", "")["properties"])))
	slices.Sort(names)
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.OneOf(
			rapid.Custom(func(t *rapid.T) any { return rapid.Float64Range(-1, 120).Draw(t, "value") }),
			rapid.Custom(func(t *rapid.T) any { return rapid.IntRange(-1, 120).Draw(t, "count") }),
			rapid.Custom(func(t *rapid.T) any { return rapid.Float64().Draw(t, "any value") }),
			rapid.SampledFrom([]any{0, 1, 0.5, 100, 1e9, 1e9 + 1, nil, "1", true, []int{1}, map[string]int{}}),
		)
		name := rapid.OneOf(rapid.SampledFrom(names), rapid.SampledFrom(names), rapid.StringN(0, 5, -1))
		doc, err := json.Marshal(rapid.MapOfN(name, value, 0, 4).Draw(t, "report"))
		if err != nil {
			t.Fatal(err)
		}
		_, _, accepted := wire.DecodeHealth(events.Subjects{}, &nats.Msg{Subject: "retry.health.pool", Data: doc})
		conforms := schemas.Validate("rebound.health.v1", doc)
		if (accepted == nil) != (conforms == nil) {
			t.Errorf("decoding says %v, the schema says %v\n%s", accepted, conforms, doc)
		}
	})
}
