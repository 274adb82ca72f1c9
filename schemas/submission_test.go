package schemas_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"pgregory.net/rapid"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/scheduler/policy"
	"github.com/rebound-mq/rebound/schemas"
)

const submission = "rebound.operation.failed.v1"

// decode reads a submission in structured mode, on the subject that its own
// service and operation belong to.
func decode(attributes map[string]any) error {
	doc, _ := json.Marshal(attributes)
	service, operation := "billing", "charge"
	if s, ok := attributes["service"].(string); ok && events.CheckName(s) == nil {
		service = s
	}
	if s, ok := attributes["operation"].(string); ok && events.CheckName(s) == nil {
		operation = s
	}
	_, err := wire.DecodeSubmission(events.Subjects{}, wire.Submission{
		Subject: events.Subjects{}.Submit(service, operation), Data: doc, Received: now,
		Header: nats.Header{"content-type": {"application/cloudevents+json"}},
	})
	return err
}

// wantAgreement insists that the schema and the decoder judge alike.
func wantAgreement(t rapid.TB, attributes map[string]any) {
	t.Helper()
	doc, _ := json.Marshal(attributes)
	decoded, conforms := decode(attributes), schemas.Validate(submission, doc)
	if (decoded == nil) != (conforms == nil) {
		t.Errorf("the decoder says %v, the schema says %v\n%s", decoded, conforms, doc)
	}
}

// event returns a valid submission with one attribute set, or taken away by nil.
func event(name string, value any) map[string]any {
	e := map[string]any{"specversion": "1.0", "id": "1", "source": "/s", "type": submission}
	e[name] = value
	if value == nil {
		delete(e, name)
	}
	return e
}

// accepted and refused list what an attribute may and may not be.
var accepted = map[string][]any{
	"id":              {"x", "a b", " x ", "é"},
	"source":          {"/s", "https://example.com/a?b#c", "urn:x:y", "s"},
	"type":            {submission, "com.example.failed", "reboundx.y"},
	"subject":         {nil, "order/1"},
	"time":            {nil, "2026-03-01T12:00:00Z", "2026-03-01T12:00:00.123456789+01:00", "1960-01-01T00:00:00Z"},
	"datacontenttype": {nil, "application/json", "text/plain; charset=utf-8"},
	"dataschema":      {nil, "https://example.com/schema"},
	"service":         {nil, "billing", "_x", "9-a_B", strings.Repeat("s", 64)},
	"operation":       {nil, "charge", strings.Repeat("o", 64)},
	"target":          {nil, "", "a", "billing.charge.v2", "a.b*c.d>", "retry.work", "retry.work.a.b", "retryx.y", "rebounds", "_INBOXES.x", "a.$x", "é.ü", strings.Repeat("x", 255)},
	"priority":        {nil, "", "critical", "high", "normal", "low"},
	"attempt":         {nil, 1, 2147483647, "1", "42", "999999999"},
	"accountid":       {nil, "", "a\tb", "acc", 17},
	"campaignid":      {nil, "", "camp", 17},
	"errorcode":       {nil, "", "503", 503, "UNAVAILABLE"},
	"errormessage":    {nil, "", "line\nline\ttab"},
	"retryafter": {
		nil, "", 0, 30, 31622400, "0", "30", "1.5", "9999999", "2026-03-01T12:00:30Z", "2020-01-01T00:00:00+02:00",
		"Sun, 01 Mar 2026 12:00:30 GMT", "Sat, 31 Jan 2026 00:00:00 GMT",
	},
	"deadline":                  {nil, "", "2026-03-01T13:00:00Z", "1970-01-01T00:00:00Z", "2026-03-01T13:00:00.5-05:00", "2026-03-01t13:00:00z"},
	"firstfailure":              {nil, "", "2026-03-01T11:00:00Z"},
	"delivery":                  {nil, "", "request", "publish"},
	"traceparent":               {nil, "", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
	"maxattempts":               {nil, "", "7", 7},
	"basedelay":                 {nil, "250ms", 250},
	"maxdelay":                  {nil, "30s", 30_000},
	"multiplier":                {nil, "1.5", 2},
	"backoffstrategy":           {nil, "linear"},
	"jittertype":                {nil, "full"},
	"attempttimeout":            {nil, "2s"},
	"maxelapsedtime":            {nil, "1h"},
	"enableadaptivebackoff":     {nil, "", true, "false"},
	"successratethreshold":      {nil, "0.5", 1},
	"adaptationfactor":          {nil, "0.5", 2},
	"learningwindow":            {nil, "20", 20},
	"enableresourceawareretry":  {nil, false},
	"respectglobalbackpressure": {nil, false, "true"},
	"rules":                     {nil, "any"},
	"region":                    {nil, "", "eu\n", true, -5, 2147483647},
	"data":                      {nil, map[string]any{"amount": 3}, "text", 1},
	"data_base64":               {nil, "", "eyJhIjoxfQ=="},
}

var refused = map[string][]any{
	"specversion":     {nil, "", "7.0", 1},
	"id":              {nil, "", "  ", "a\nb", "\x7f", strings.Repeat("x", 1025), 1},
	"source":          {nil, "", "a\x01b", "/" + strings.Repeat("x", 1024), 1},
	"type":            {nil, "", " ", "rebound.retrySuccess.v1", "rebound.", strings.Repeat("x", 1025), 1},
	"subject":         {" ", "a\x00", strings.Repeat("x", 1025), 1},
	"time":            {"yesterday", "2026-02-30T00:00:00Z", 1},
	"datacontenttype": {"a/b c", 1},
	"dataschema":      {"relative"},
	"service":         {"", "-a", "bill.ing", "bill ing", "*", "é", strings.Repeat("s", 65), true},
	"operation":       {"", "-invalid-", "a>", "a\x00", strings.Repeat("o", 65)},
	"target": {
		"*", ">", "a.*", "a.>.b", "a..b", ".a", "a.", "a b", "a\tb", "$SYS.>", "$JS.API.X", "$x", "_INBOX.x", "_INBOX", "_INBOX_a.b", "retry", "retry.submit.x.y",
		"retry.workers.x", "rebound", "rebound.dead.discard", strings.Repeat("x", 256),
	},
	"priority":                  {"urgent", "High", 1},
	"attempt":                   {0, -4, "0", "-4", "two", "", "1.5", 2147483648, "99999999999", true},
	"accountid":                 {"a\x07", "a\nb", strings.Repeat("x", 1025), 1e10},
	"campaignid":                {strings.Repeat("x", 1025)},
	"errorcode":                 {"a\nb", strings.Repeat("x", 129)},
	"errormessage":              {"a\x00", "a\rb", strings.Repeat("x", 8193)},
	"retryafter":                {"soon", "-1", "NaN", -1, 31622401, "99999999", "Sun, 01 Mar 2026", true},
	"deadline":                  {"tomorrow", "1969-12-31T23:59:59Z", "2026-02-30T00:00:00Z", "2026-03-01", "2026-03-01T23:59:60Z", 5},
	"firstfailure":              {"now", "0001-01-01T00:00:00Z"},
	"delivery":                  {"Publish", "carrier-pigeon"},
	"traceparent":               {strings.Repeat("x", 65)},
	"maxattempts":               {strings.Repeat("x", 65), "a\n"},
	"basedelay":                 {strings.Repeat("x", 65)},
	"maxdelay":                  {strings.Repeat("x", 65)},
	"multiplier":                {strings.Repeat("x", 65)},
	"backoffstrategy":           {strings.Repeat("x", 65)},
	"jittertype":                {strings.Repeat("x", 65)},
	"attempttimeout":            {strings.Repeat("x", 65)},
	"maxelapsedtime":            {strings.Repeat("x", 65)},
	"respectglobalbackpressure": {strings.Repeat("x", 65), "a\n"},
	"learningwindow":            {strings.Repeat("x", 65)},
	"enableadaptivebackoff":     {strings.Repeat("x", 65)},
	"successratethreshold":      {strings.Repeat("x", 65)},
	"adaptationfactor":          {strings.Repeat("x", 65)},
	"enableresourceawareretry":  {strings.Repeat("x", 65)},
	"maxconcurrentretries":      {"5", 5, ""},
	"circuitbreakerthreshold":   {3},
	"retrybudgetperhour":        {"x"},
	"region":                    {map[string]any{}, []any{1}, 1e10},
	"data_base64":               {1, "%"},
	"with-dash":                 {"x"},
}

func TestSubmissionSchema_AcceptsWhatTheDecoderAccepts(t *testing.T) {
	for name, values := range accepted {
		for _, value := range values {
			t.Run(fmt.Sprintf("%s %.20v", name, value), func(t *testing.T) {
				e := event(name, value)
				doc, _ := json.Marshal(e)
				if err := schemas.Validate(submission, doc); err != nil {
					t.Error(err)
				}
				wantAgreement(t, e)
			})
		}
	}
}

func TestSubmissionSchema_RefusesWhatTheDecoderRefuses(t *testing.T) {
	for name, values := range refused {
		for _, value := range values {
			t.Run(fmt.Sprintf("%s %.20v", name, value), func(t *testing.T) {
				e := event(name, value)
				doc, _ := json.Marshal(e)
				if err := schemas.Validate(submission, doc); err == nil {
					t.Errorf("the schema accepts %s", doc)
				}
				wantAgreement(t, e)
			})
		}
	}
}

func TestSubmissionSchema_EveryAttributeIsTried(t *testing.T) {
	for name := range asObject(schema(t, submission)["properties"]) {
		if name != "data" && len(refused[name]) == 0 || name != "specversion" && len(accepted[name]) == 0 {
			t.Errorf("attribute %s is not tried", name)
		}
	}
}

func TestSubmissionSchema_LengthsAreThoseOfTheDecoder(t *testing.T) {
	for name, child := range asObject(schema(t, submission)["properties"]) {
		limit, ok := asObject(child)["maxLength"].(float64)
		if !ok {
			continue
		}
		for _, n := range []int{int(limit), int(limit) + 1} {
			wantAgreement(t, event(name, strings.Repeat("x", n)))
		}
	}
}

// TestSubmissionSchema_AgreesWithTheDecoder draws texts of ASCII, where
// bytes and characters are the same.
func TestSubmissionSchema_AgreesWithTheDecoder(t *testing.T) {
	ascii := rapid.StringOfN(rapid.RuneFrom([]rune("aZ09-_ .*>$\t\n\r\x00\x7f~")), 1, 12, -1)
	subject := rapid.Map(rapid.SliceOfN(rapid.SampledFrom([]string{"retry", "work", "submit", "rebound", "_INBOX", "_INBOX_", "$JS", "a", "*", ">", "", "a b", "b*"}), 1, 4),
		func(tokens []string) string { return strings.Join(tokens, ".") })
	whole := rapid.Map(rapid.IntRange(-2, 1<<33), func(n int) any { return n })
	digits := rapid.Map(rapid.IntRange(-2, 999_999_999), func(n int) any { return fmt.Sprint(n) })
	when := rapid.Map(rapid.Int64Range(-100*365*24*3600, 100*365*24*3600), func(s int64) any {
		return time.Unix(s, 0).In(time.FixedZone("", int(s%12)*3600)).Format(time.RFC3339)
	})
	asAny := func(g *rapid.Generator[string]) *rapid.Generator[any] {
		return rapid.Map(g, func(s string) any { return s })
	}
	draws := map[string]*rapid.Generator[any]{
		"id": asAny(ascii), "type": asAny(ascii), "subject": asAny(ascii), "service": asAny(ascii), "operation": asAny(ascii),
		"target": rapid.OneOf(asAny(ascii), asAny(subject)), "priority": asAny(ascii), "attempt": rapid.OneOf(whole, digits),
		"accountid": rapid.OneOf(asAny(ascii), whole), "campaignid": asAny(ascii), "errorcode": rapid.OneOf(asAny(ascii), whole),
		"errormessage": asAny(ascii), "deadline": when, "firstfailure": when, "delivery": asAny(ascii), "traceparent": asAny(ascii),
		"maxattempts": rapid.OneOf(asAny(ascii), whole), "region": rapid.OneOf(asAny(ascii), whole),
	}
	names := make([]string, 0, len(draws))
	for name := range accepted {
		names = append(names, name)
	}
	rapid.Check(t, func(t *rapid.T) {
		e := event("id", "1")
		for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom(names), 0, 4, rapid.ID).Draw(t, "attributes") {
			value := rapid.SampledFrom(append(accepted[name], refused[name]...)).Draw(t, name)
			if g := draws[name]; g != nil && rapid.Bool().Draw(t, "any "+name) {
				value = g.Draw(t, name)
			}
			if name == "datacontenttype" || name == "data" || name == "data_base64" {
				continue // The payload must fit the media type, which no attribute tells.
			}
			if e[name] = value; value == nil {
				delete(e, name)
			}
		}
		wantAgreement(t, e)
	})
}

func TestSubmissionSchema_KnowsEveryKeyOfAPolicy(t *testing.T) {
	for _, key := range policy.Keys() {
		name := strings.ToLower(key.Name)
		e := event(name, "1")
		doc, _ := json.Marshal(e)
		err := schemas.Validate(submission, doc)
		switch {
		case key.Overridable && err != nil:
			t.Errorf("the schema refuses the override %s: %v", name, err)
		case policy.Unmistakable(name) && err == nil:
			t.Errorf("the schema accepts %s, which belongs to the key", name)
		}
	}
}
