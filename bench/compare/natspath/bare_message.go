package natspath

// What Rebound stores and publishes for an operation of the benchmark, of the same length.
const state = `{"id":"00000000000000000000000000000000","eventId":"dn65mbw3xkyv-1","source":"/retry/submit/bench/op",` +
	`"type":"rebound.operation.failed.v1","service":"bench","operation":"op","delivery":"request","priority":"normal","attempt":1,` +
	`"firstFailure":"2026-01-01T00:00:00.000000000Z","submitted":"2026-01-01T00:00:00.000000000Z","due":"2026-01-01T00:00:00.000000000Z",` +
	`"history":[{"attempt":1,"at":"2026-01-01T00:00:00.000000000Z","durationMs":0,"class":"retryable","rule":"unknown","delayMs":1,"strategy":"adaptive_fixed"}]}`

var (
	scheduled = []byte(`{"id":"00000000000000000000000000000000","eventId":"dn65mbw3xkyv-1","source":"/retry/submit/bench/op","service":"bench",` +
		`"operation":"op","priority":"normal","attempt":1,"error":{},"durationMs":0,"class":"retryable","rule":"unknown","delayMs":1,` +
		`"due":"2026-01-01T00:00:00.000000000Z","strategy":"adaptive_fixed","confidence":0,"factors":{"cpu":1,"health":1,"load":1,"memory":1,` +
		`"pool":1,"priority":1,"queue":1,"responseTime":1,"successRate":1}}`)
	succeeded = []byte(`{"id":"00000000000000000000000000000000","eventId":"dn65mbw3xkyv-1","source":"/retry/submit/bench/op","service":"bench",` +
		`"operation":"op","priority":"normal","outcome":"retrySuccess","attempts":2,"target":"bench.op","durationMs":2.321,` +
		`"firstFailure":"2026-01-01T00:00:00.000000000Z","endedAt":"2026-01-01T00:00:00.000000000Z","elapsedMs":8.174,"strategy":"adaptive_fixed"}`)
	eventHeaders = map[string][]string{
		"ce-operation": {"op"}, "ce-service": {"bench"}, "ce-source": {"/rebound"}, "ce-specversion": {"1.0"}, "ce-subject": {"bench:op"},
		"ce-time": {"2026-01-01T00:00:00.000000000Z"}, "ce-type": {"rebound.retryScheduled.v1"}, "content-type": {"application/json"},
	}
)

const (
	// headerRetryAfter is the delay that a submission asks for, in seconds.
	headerRetryAfter = "ce-retryafter"
	// headerDue is when the bare path tries an operation again, in nanoseconds since 1970.
	headerDue = "Bench-Due"
)
