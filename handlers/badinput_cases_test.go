package handlers_test

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/events"
)

// binary returns the headers of a CloudEvent in binary mode, with one more.
func binary(name, value string) nats.Header {
	h := nats.Header{"ce-specversion": {"1.0"}, "ce-id": {"1"}, "ce-source": {"/s"}, "ce-type": {events.TypeFailed}}
	h[name] = []string{value}
	return h
}

// badSubmissions become dead letters.
func badSubmissions() []badMessage {
	structured := func(data string) (nats.Header, string) {
		return nats.Header{"content-type": {"application/cloudevents+json"}}, data
	}
	in := func(name, data, want string) badMessage {
		h, d := structured(data)
		return badMessage{name, "", h, d, want}
	}
	bare := func(name, attribute, value, want string) badMessage {
		return badMessage{name, "", nats.Header{attribute: {value}}, "x", want}
	}
	long := strings.Repeat("x", 2000)
	return []badMessage{
		{"a submission whose subject has one token", "retry.submit.billing", nil, "x", "it needs two"},
		{"a submission whose subject has three tokens", "retry.submit.a.b.c", nil, "x", "it needs two"},
		{"a submission of a service that starts with a dash", "retry.submit.-a.b", nil, "x", "starts with a dash"},
		{"a submission of a service with an umlaut", "retry.submit.ä.b", nil, "x", "has the character"},
		{"a submission of an operation type of 65 letters", "retry.submit.a." + strings.Repeat("o", 65), nil, "x", "more than the 64 allowed"},

		{"an event without an id", "", nats.Header{"ce-specversion": {"1.0"}, "ce-source": {"/s"}, "ce-type": {"t"}}, "x", "id: MUST be a non-empty string"},
		{"an event without a source", "", nats.Header{"ce-specversion": {"1.0"}, "ce-id": {"1"}, "ce-type": {"t"}}, "x", "source: REQUIRED"},
		{"an event without a type", "", nats.Header{"ce-specversion": {"1.0"}, "ce-id": {"1"}, "ce-source": {"/s"}}, "x", "type: MUST be a non-empty string"},
		{"an event of an unknown version", "", binary("ce-specversion", "7.0"), "x", `specversion "7.0" is not known`},
		{"an event that is one of Rebound's own", "", binary("ce-type", "rebound.retrySuccess.v1"), "x", "is not for submissions"},
		{"an event whose time is none", "", binary("ce-time", "yesterday"), "x", "yesterday"},
		{"an event with an attribute name of dashes", "", binary("ce-a-b", "1"), "x", "a-b"},
		{"an event of another service than its subject", "", binary("ce-service", "other"), "x", `differs from "billing" in the subject`},
		{"an event of another operation type than its subject", "", binary("ce-operation", "other"), "x", `differs from "charge" in the subject`},
		{"an event with an empty id", "", binary("ce-id", ""), "x", "id is required"},
		{"an event with an id of 2,000 letters", "", binary("ce-id", long), "x", "attribute id has 2000 bytes"},
		{"an event whose source is no URI", "", binary("ce-source", "%00"), "x", "source"},

		in("an envelope that breaks off", `{"specversion":"1.0"`, "not valid JSON"),
		in("an envelope of nothing", "", "not valid JSON"),
		in("an envelope that is a list", `[1]`, "structured mode"),
		in("an envelope that is null", `null`, "structured mode"),
		in("an envelope with something behind it", `{"specversion":"1.0","id":"1","source":"/s","type":"t"} {}`, "not valid JSON"),
		in("an envelope whose id is a number", `{"specversion":"1.0","id":7,"source":"/s","type":"t"}`, "structured mode"),
		in("an envelope whose data_base64 is a number", `{"specversion":"1.0","id":"1","source":"/s","type":"t","data_base64":7}`, "structured mode"),
		in("an envelope whose data_base64 is no base64", `{"specversion":"1.0","id":"1","source":"/s","type":"t","data_base64":"!"}`, "structured mode"),
		in("an envelope without a version", `{"id":"1","source":"/s","type":"t"}`, "structured mode"),
		in("an envelope with an attribute that is an object", `{"specversion":"1.0","id":"1","source":"/s","type":"t","target":{}}`, "structured mode"),
		in("an envelope with an account that is not UTF-8", "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\",\"type\":\"t\",\"accountid\":\"\xff\"}", "attribute accountid is not valid UTF-8"),
		in("an envelope with an attempt of 1e99", `{"specversion":"1.0","id":"1","source":"/s","type":"t","attempt":1e99}`, "out of range"),
		{"a batch of events", "", nats.Header{"Content-Type": {"application/cloudevents-batch+json"}}, `[]`, "a batch of CloudEvents is not accepted"},

		bare("an attempt of zero", "ce-attempt", "0", "no whole number of at least 1"),
		bare("an attempt below zero", "ce-attempt", "-1", "no whole number of at least 1"),
		bare("an attempt that no number holds", "ce-attempt", "99999999999999999999", "no whole number of at least 1"),
		bare("an attempt that is a word", "CE-Attempt", "two", "no whole number of at least 1"),
		bare("a priority that does not exist", "ce-priority", "urgent", "none of critical, high, normal, low"),
		bare("a delivery that does not exist", "ce-delivery", "pigeon", `neither "request" nor "publish"`),
		bare("a deadline that is no time", "ce-deadline", "tomorrow", "no RFC 3339 time"),
		bare("a deadline before 1970", "ce-deadline", "1969-12-31T23:59:59Z", "since 1970"),
		bare("a first failure that is no time", "ce-firstfailure", "0", "no RFC 3339 time"),
		bare("a time to come back that is none", "ce-retryafter", "soon", "neither seconds nor a date"),
		bare("a time to come back in two years", "ce-retryafter", "63244800", "not between 0 seconds and a year"),
		bare("a date to come back in the year 9000", "ce-retryafter", "9000-01-01T00:00:00Z", "more than a year away"),
		bare("a number of seconds that is none", "ce-retryafter", "NaN", "not between 0 seconds and a year"),
		bare("an account with a bell", "ce-accountid", "a%07", "control character U+0007"),
		bare("a campaign that is not UTF-8", "ce-campaignid", "%FF", "not valid UTF-8"),
		bare("an error code of 129 letters", "ce-errorcode", strings.Repeat("c", 129), "attribute errorcode has 129 bytes"),
		bare("an error message of 8,193 letters", "ce-errormessage", strings.Repeat("e", 8193), "attribute errormessage has 8193 bytes"),
		bare("a trace parent of 65 letters", "Traceparent", strings.Repeat("t", 65), "attribute traceparent has 65 bytes"),
		bare("headers of more than 16 KiB", "X", strings.Repeat("y", events.MaxHeaders), "more than the 16384 allowed"),
		bare("an empty id", "ce-id", "", "attribute id is empty"),

		bare("a target of the server's", "ce-target", "$SYS.REQ.SERVER.PING", "belongs to the server"),
		bare("a target of JetStream's", "ce-target", "$JS.API.STREAM.DELETE.RETRY", "belongs to the server"),
		bare("a target that is an inbox", "ce-target", "_INBOX.x", "is an inbox"),
		bare("a target that is a submission", "ce-target", "retry.submit.x.y", "belongs to Rebound itself"),
		bare("a target that is an endpoint", "ce-target", "rebound.dead.discard", "belongs to Rebound itself"),
		bare("a target with a wildcard", "ce-target", "a.*", "has a wildcard"),
		bare("a target with an empty token", "ce-target", "a..b", "has an empty token"),
		bare("a target with a space", "ce-target", "a%20b", "has a space"),
		bare("a target of 256 letters", "ce-target", strings.Repeat("t", 256), "more than the 255 allowed"),
		{"a target that the policy does not allow", "retry.submit.guarded.op", nats.Header{"ce-target": {"other.x"}}, "x", "other.x"},

		bare("an override of attempts that is a word", "ce-maxattempts", "many", "maxattempts"),
		bare("an override of attempts of zero", "ce-maxattempts", "0", "maxattempts"),
		bare("an override of the base delay with a comma", "ce-basedelay", "1,5s", "basedelay"),
		bare("an override of the base delay below zero", "ce-basedelay", "-1", "basedelay"),
		bare("an override of the longest delay that no number holds", "ce-maxdelay", "1e400", "maxdelay"),
		bare("an override of the multiplier that is no number", "ce-multiplier", "NaN", "multiplier"),
		bare("an override of the strategy that does not exist", "ce-backoffstrategy", "quadratic", "backoffstrategy"),
		bare("an override of the jitter that is misspelt", "ce-jittertype", "ful", "did you mean full?"),
		bare("an override of the timeout of zero", "ce-attempttimeout", "0", "attempttimeout"),
		bare("an override of the whole time that is none", "ce-maxelapsedtime", "ever", "maxelapsedtime"),

		bare("a replay of what is no sequence", events.HeaderDeadSequence, "first", "is not a sequence"),
		bare("a replay that is written in small letters", "retry-dead-sequence", "-1", "is not a sequence"),
	}
}

// foreignMessages are on subjects where only Rebound publishes.
func foreignMessages() []badMessage {
	id := func(n int) string { return fmt.Sprintf("%032x", n) }
	state := func(text string) nats.Header { return nats.Header{events.HeaderState: {text}} }
	return []badMessage{
		{"a foreign message that is due", "retry.due.normal.billing.charge." + id(1), nil, "x", "no Retry-State header"},
		{"a due message on a short subject", "retry.due.high.x", nil, "x", "no Retry-State header"},
		{"a due message whose state is no JSON", "retry.due.low.billing.charge." + id(2), state("{"), "x", "decoding the Retry-State header"},
		{"a due message whose state is null", "retry.due.low.billing.charge." + id(3), state("null"), "x", "is incomplete"},
		{"a due message whose state has something behind it", "retry.due.low.billing.charge." + id(4), state(`{"id":"` + id(4) + `","attempt":1,"service":"a","operation":"b"} {}`), "x", "decoding the Retry-State header"},
		{"a due message whose id is a wildcard", "retry.due.critical.billing.charge." + id(5), state(`{"id":"*","attempt":1,"service":"a","operation":"b"}`), "x", "which no operation has"},
		{"a due message of a service with a dot", "retry.due.normal.billing.charge." + id(6), state(`{"id":"` + id(6) + `","attempt":1,"service":"a.b","operation":"c"}`), "x", "names no valid service"},
		{"a due message of an attempt below zero", "retry.due.normal.billing.charge." + id(7), state(`{"id":"` + id(7) + `","attempt":-1,"service":"a","operation":"b"}`), "x", "is incomplete"},
		{"a due message of an attempt that no number counts", "retry.due.normal.billing.charge." + id(8), state(`{"id":"` + id(8) + `","attempt":9007199254740993,"service":"a","operation":"b"}`), "x", "which no operation has"},
		{"a due message of an unknown priority", "retry.due.normal.billing.charge." + id(9), state(`{"id":"` + id(9) + `","attempt":1,"service":"a","operation":"b","priority":"urgent"}`), "x", "decoding the Retry-State header"},
		{"a due message whose work has no token", "retry.due.normal.billing.charge." + id(10), nats.Header{events.HeaderState: {`{"id":"` + id(10) + `","attempt":1,"service":"a","operation":"b"}`}, events.HeaderWork: {`{"attempt":2}`}}, "x", "Retry-Work header is incomplete"},
		{"a parked message that its own schedule makes due", "retry.parked.normal.billing.charge." + id(11), nats.Header{
			"Nats-Schedule": {"@at 2026-03-01T12:00:00Z"}, "Nats-Schedule-Target": {"retry.due.normal.billing.charge." + id(11)},
		}, "x", "no Retry-State header"},

		{"a foreign message among the dead letters", "retry.dead.ä.b." + id(15), nil, "x", "a name in its subject"},
		{"a dead letter whose id is none", "retry.dead.a.b.c", nats.Header{events.HeaderReason: {"exhausted"}}, "x", "which is no operation's id"},
		{"a dead letter without a reason", "retry.dead.a.b." + id(12), nil, "x", "it has no header Retry-Reason"},
		{"a dead letter whose state is no JSON", "retry.dead.a.b." + id(13), nats.Header{events.HeaderReason: {"exhausted"}, events.HeaderState: {"{"}}, "x", "decoding the Retry-State header"},
		{"a dead letter that was cut off after a word", "retry.dead.a.b." + id(14), nats.Header{events.HeaderReason: {"exhausted"}, events.HeaderTruncated: {"many"}}, "x", "no number of bytes"},
	}
}

// badAdvisories name no message that was given up.
func badAdvisories() []badMessage {
	advisory := func(name, value string) string {
		all := map[string]any{
			"type": "io.nats.jetstream.advisory.v1.max_deliver", "id": "X1", "timestamp": "2026-03-01T12:00:00Z",
			"stream": "ORDERS", "consumer": "worker", "stream_seq": 17, "deliveries": 3,
		}
		all[name] = json.RawMessage(value)
		data, _ := json.Marshal(all)
		return string(data)
	}
	on := func(name, data, want string) badMessage {
		return badMessage{name, "retry.advisory.ORDERS.worker", nil, data, want}
	}
	return []badMessage{
		on("an advisory that is no JSON", "hello", "reading an advisory"),
		on("an advisory of something else", advisory("type", `"io.nats.jetstream.advisory.v1.nak"`), "tells of no message that was given up"),
		on("an advisory without a sequence", advisory("stream_seq", "0"), "is incomplete"),
		on("an advisory of a sequence below zero", advisory("stream_seq", "-1"), "reading an advisory"),
		on("an advisory of a stream with a wildcard", advisory("stream", `"*"`), "is incomplete"),
		on("an advisory without a time", advisory("timestamp", "null"), "is incomplete"),
		on("an advisory of the year 10000", advisory("timestamp", `"9999-12-31T23:59:59-01:00"`), "is incomplete"),
	}
}

// badHealthReports are refused.
func badHealthReports() []badMessage {
	return []badMessage{
		{"a health report of a service with a dot", "retry.health.a.b", nil, `{"cpuUtilization":1}`, "has the character '.'"},
		{"a health report that is no JSON", "retry.health.h1", nil, "busy", "not a JSON object"},
		{"a health report of an unknown figure", "retry.health.h2", nil, `{"cpu":1}`, `"cpu" is none of the figures`},
		{"a health report of 101 percent", "retry.health.h3", nil, `{"cpuUtilization":101}`, "not between 0 and 100"},
		{"a health report of a number that no float holds", "retry.health.h4", nil, `{"systemLoad":1e999}`, "systemLoad is 1e999"},
		{"a health report of half a request", "retry.health.h5", nil, `{"queueLength":1.5}`, "no whole number"},
		{"a health report of a figure twice", "retry.health.h6", nil, `{"errorRate":0,"errorRate":1}`, `"errorRate" stands twice`},
		{"a health report with something behind it", "retry.health.h7", nil, `{"errorRate":0}}`, "something follows"},
		{"a health report of nothing", "retry.health.h8", nil, `{}`, "reports no figure"},
		{"a health report that is too long", "retry.health.h9", nil, strings.Repeat(" ", 17<<10), "more than the 16384 allowed"},
		{"a health report that is another event", "retry.health.h10", binary("ce-x", "1"), `{"errorRate":0}`, "is not rebound.health.v1"},
		{"a health report of another service", "retry.health.h11", nats.Header{
			"ce-specversion": {"1.0"}, "ce-id": {"1"}, "ce-source": {"/s"}, "ce-type": {events.TypeHealth}, "ce-service": {"h12"},
		}, `{"errorRate":0}`, `differs from "h11" in the subject`},
	}
}

// badInstanceReports are refused.
func badInstanceReports() []badMessage {
	report := func(id string, change func(*events.InstanceReport)) string {
		r := events.InstanceReport{ID: id, State: events.InstanceServing, Started: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
		change(&r)
		data, _ := json.Marshal(r)
		return string(data)
	}
	good := report("i1", func(*events.InstanceReport) {})
	return []badMessage{
		{"a report of an instance under another id", "retry.instance.i0", nil, good, `id "i1" differs from "i0"`},
		{"a report of an instance that is no JSON", "retry.instance.i2", nil, "up", "it is not JSON"},
		{"a report of an instance with an unknown field", "retry.instance.i3", nil, `{"id":"i3","leader":true}`, `unknown field "leader"`},
		{"a report of an instance with a field twice", "retry.instance.i4", nil, `{"id":"i4","id":"i4"}`, `"id" stands twice`},
		{"a report of an instance with something behind it", "retry.instance.i1", nil, good + "]", "something follows"},
		{"a report of an instance in an unknown state", "retry.instance.i5", nil, report("i5", func(r *events.InstanceReport) { r.State = "dead" }), `state "dead" is none of`},
		{"a report of an instance with less than nothing in flight", "retry.instance.i6", nil, report("i6", func(r *events.InstanceReport) { r.InFlight = -1 }), "inFlight is -1"},
		{"a report of an instance whose host has a line break", "retry.instance.i7", nil, report("i7", func(r *events.InstanceReport) { r.HostName = "a\nb" }), "hostName is no line"},
		{"a report of an instance that never started", "retry.instance.i8", nil, report("i8", func(r *events.InstanceReport) { r.Started = time.Time{} }), "started is missing"},
		{"a report of an instance that is too long", "retry.instance.i9", nil, strings.Repeat("i", 5000), "more than the 4096 allowed"},
	}
}

// badRequests are answered with an error.
func badRequests() []badRequest {
	ask := func(name, endpoint, data, code, want string) badRequest {
		return badRequest{name, "rebound." + endpoint, nil, data, code, want}
	}
	submit := func(name, key, header, value, want string) badRequest {
		return badRequest{name, "rebound.submit." + key, nats.Header{header: {value}}, "x", "400", want}
	}
	unknown := strings.Repeat("0", 32)
	return []badRequest{
		ask("a question for the status that says something", "status", `{"service":"a"}`, "400", `unknown field "service"`),
		ask("a question for the coordination that is no JSON", "coordination", "all", "400", "it is not JSON"),
		ask("a question for the health of a service with a dot", "health", `{"service":"a.b"}`, "400", "has the character '.'"),
		ask("a question for the health in capitals", "health", `{"SERVICE":"a"}`, "400", `unknown field "SERVICE"`),

		ask("a list of breakers with something behind the question", "breaker.list", `{"service":"a"} {}`, "400", "something follows"),
		ask("a list of breakers of a wildcard", "breaker.list", `{"service":"*"}`, "400", "has the character '*'"),
		ask("a breaker without a key", "breaker.show", ``, "400", "not of the form service:operation"),
		ask("a breaker of a key without a colon", "breaker.show", `{"key":"billing"}`, "400", "not of the form service:operation"),
		ask("a breaker that nobody knows", "breaker.show", `{"key":"no:body"}`, "404", "nothing is known"),
		ask("a breaker that is tripped for less than no time", "breaker.trip", `{"key":"a:b","forMs":-1}`, "400", "forMs is -1"),
		ask("a breaker that is tripped for 100 days", "breaker.trip", `{"key":"a:b","forMs":8640000000}`, "400", "forMs is 8.64e+09"),
		ask("a breaker that is tripped for a word", "breaker.trip", `{"key":"a:b","forMs":"1m"}`, "400", `"forMs" is not of the type float64`),
		ask("a breaker that is held with a note of 501 letters", "breaker.hold", `{"key":"a:b","note":"`+strings.Repeat("n", 501)+`"}`, "400", "the note has 501 bytes"),
		ask("a breaker that is reset by a key twice", "breaker.reset", `{"key":"a:b","key":"c:d"}`, "400", `"key" stands twice`),

		ask("policies with an unknown field", "policy.apply", `{"file":"p.yaml"}`, "400", `unknown field "file"`),
		ask("policies of nothing", "policy.apply", ``, "400", "source is missing"),
		ask("policies that would take all away", "policy.apply", `{"source":"# nothing yet\n"}`, "400", "it has no policies and would take away those of"),
		ask("policies with an unknown key", "policy.apply", `{"source":"default: {maxRetries: 3}"}`, "400", "did you mean maxAttempts"),
		ask("policies that are no YAML", "policy.apply", `{"source":"a: {"}`, "400", "request:"),
		ask("policies with no attempt", "policy.apply", `{"source":"default: {maxAttempts: 0}"}`, "400", "maxAttempts"),
		ask("policies whose base delay is over its cap", "policy.apply", `{"source":"a: {baseDelay: 1h, maxDelay: 1s}"}`, "400", "baseDelay"),
		ask("policies with a target of the server's", "policy.apply", `{"source":"a: {target: $JS.API.INFO}"}`, "400", "target"),
		ask("policies that are not UTF-8", "policy.apply", "{\"source\":\"a: \xff\"}", "400", "not valid UTF-8"),
		ask("a check of policies that breaks off", "policy.check", `{"source":"a`, "400", "breaks off"),
		ask("an explanation without a service", "policy.explain", `{"operation":"b"}`, "400", "service is empty"),
		ask("an explanation of a priority that does not exist", "policy.explain", `{"service":"a","operation":"b","priority":"urgent"}`, "400", "none of critical"),
		ask("an explanation of an override that is none", "policy.explain", `{"service":"a","operation":"b","overrides":{"maxAttempts":"2"}}`, "400", `"maxAttempts" is no attribute that overrides`),
		ask("an explanation of an override of zero attempts", "policy.explain", `{"service":"a","operation":"b","overrides":{"maxattempts":"0"}}`, "400", "maxattempts"),
		ask("a way back to no revision", "policy.rollback", ``, "400", "revision is missing"),
		ask("a way back to a revision that never was", "policy.rollback", `{"revision":99}`, "404", "no such revision"),
		ask("a way back to a revision below zero", "policy.rollback", `{"revision":-1}`, "400", `"revision" is not of the type uint64`),
		ask("a history of the policies of one service", "policy.history", `{"service":"a"}`, "400", "unknown field"),

		ask("an adoption of nothing", "adopt.add", `{}`, "400", "stream is empty"),
		ask("an adoption from a stream with a dot", "adopt.add", `{"stream":"a.b","consumer":"c"}`, "400", "no name that a server gives"),
		ask("an adoption from a stream that is not there", "adopt.add", `{"stream":"NONE","consumer":"c"}`, "404", "NONE"),
		ask("an adoption of a consumer that is not there", "adopt.add", `{"stream":"ORDERS","consumer":"none"}`, "404", "none"),
		ask("an adoption to a target of the server's", "adopt.add", `{"stream":"ORDERS","consumer":"worker","target":"$SYS.x"}`, "400", "belongs to the server"),
		ask("an end of an adoption of nothing", "adopt.remove", ``, "400", "stream is empty"),
		ask("an end of an adoption of what is not adopted", "adopt.remove", `{"stream":"ORDERS","consumer":"none"}`, "404", "not adopted"),

		ask("a list of dead letters of an unknown reason", "dead.list", `{"reason":"bored"}`, "400", `reason "bored"`),
		ask("a list of 1,001 dead letters", "dead.list", `{"limit":1001}`, "400", "more than the 1000 allowed"),
		ask("a list of less than no dead letters", "dead.list", `{"limit":-1}`, "400", "limit -1 is negative"),
		ask("a list of dead letters of no time", "dead.list", `{"since":"2026-03-01T12:00:00Z","until":"2026-03-01T12:00:00Z"}`, "400", "is not before until"),
		ask("a list of dead letters since yesterday", "dead.list", `{"since":"yesterday"}`, "400", "reading the request"),
		ask("a list of dead letters after a number that no sequence has", "dead.list", `{"after":1e30}`, "400", `"after" is not of the type uint64`),
		ask("a dead letter of no id", "dead.show", ``, "400", "not an operation id"),
		ask("a dead letter of an id that is a wildcard", "dead.show", `{"id":">"}`, "400", "not an operation id"),
		ask("a dead letter that is not there", "dead.show", `{"id":"`+unknown+`"}`, "404", "no such dead letter"),
		ask("a dead letter of an id of half a megabyte", "dead.show", `{"id":"`+strings.Repeat("\\u0001", 80_000)+`"}`, "400", `id "\x01`),
		ask("a replay of everything by mistake", "dead.replay", `{}`, "400", "set all to true"),
		ask("a replay of an empty list", "dead.replay", `{"ids":[],"service":"billing"}`, "400", "ids is an empty list"),
		ask("a replay of 10,001", "dead.replay", `{"all":true,"limit":10001}`, "400", "more than the 10000 allowed"),
		ask("a discard with something behind it", "dead.discard", `{"service":"nobody"}{"all":true}`, "400", "something follows"),
		ask("a discard of all that is written in capitals", "dead.discard", `{"ALL":true}`, "400", `unknown field "ALL"`),

		submit("a submission by request with a target of the server's", "billing.charge", "ce-target", "$JS.API.INFO", "belongs to the server"),
		submit("a submission by request with an override that is a word", "billing.charge", "ce-maxattempts", "many", "maxattempts"),
		submit("a submission by request of a service with a dash before it", "-x.charge", "X", "y", "starts with a dash"),
		submit("a submission by request to where the policy forbids", "guarded.op", "ce-target", "other.x", "other.x"),
	}
}

// badReports are refused while the attempt of a worker waits for one.
func (r *rig) badReports() []badRequest {
	r.t.Helper()
	r.submit("retry.submit.worker.op", publish, "x")
	job := r.job("RETRY_WORK")
	subject := "rebound.report.worker.op"
	with := func(more ...string) nats.Header { return reportOn(job, "success", more...).Header }
	attempt, _ := strconv.Atoi(job.Headers().Get(events.HeaderAttempt))
	data := func(more string) string {
		return fmt.Sprintf(`{"id":%q,"attempt":%d,"token":%q%s`, job.Headers().Get(events.HeaderID), attempt, job.Headers().Get(events.HeaderToken), more)
	}
	return []badRequest{
		{"a report with another token", subject, with(events.HeaderToken, "guessed"), "", "403", "token"},
		{"a report on another attempt", subject, with(events.HeaderAttempt, "1"), "", "409", "attempt"},
		{"a report on an operation that is not there", subject, with(events.HeaderID, strings.Repeat("0", 32)), "", "404", "operation"},
		{"a report of another key", "rebound.report.billing.charge", with(), "", "404", "operation"},
		{"a report without a token", subject, with(events.HeaderToken, ""), "", "400", "token is missing"},
		{"a report on an id that is a wildcard", subject, with(events.HeaderID, "*"), "", "400", "no operation's"},
		{"a report on attempt zero", subject, with(events.HeaderAttempt, "0"), "", "400", "no attempt's number"},
		{"a report of an unknown result", subject, with(events.HeaderResult, "done"), "", "400", "none of success, failure and working"},
		{"a report of a success with an error", subject, with("Nats-Service-Error", "x"), "", "400", "tells of an error"},
		{"a report of a failure that comes back soon", subject, with(events.HeaderResult, "failure", "retry-after", "soon"), "", "400", "neither seconds nor a date"},
		{"a report of nothing", subject, nil, "", "400", "has neither the header"},
		{"a report with something behind it", subject, nil, data(`,"result":"success"}]`), "400", "something follows"},
		{"a report with a result twice", subject, nil, data(`,"result":"failure","result":"success"}`), "400", `"result" stands twice`},
		{"a report with an unknown field", subject, nil, data(`,"result":"success","outcome":1}`), "400", `unknown field "outcome"`},
		{"a report that asks for more than a year", subject, nil, data(`,"result":"failure","retryAfterMs":1e12}`), "400", "not between 0 and 366 days"},
		{"a report that is another event", subject, binary("ce-x", "1"), data(`,"result":"success"}`), "400", "is not rebound.report.v1"},
	}
}
