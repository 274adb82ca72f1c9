package events

// The headers that Rebound reads and writes.
const (
	// HeaderState carries the state of an operation between its steps. Targets never see it.
	HeaderState = "Retry-State"
	// HeaderWork carries the attempt that a worker is making, beside the state.
	HeaderWork = "Retry-Work"

	// The headers of a redelivered operation.
	HeaderID           = "Retry-Id"
	HeaderAttempt      = "Retry-Attempt"
	HeaderFirstFailure = "Retry-First-Failure"
	HeaderDeadline     = "Retry-Deadline"
	// HeaderRepeated is "true" if the same attempt may have reached the target before, for
	// example because the instance that made it died.
	HeaderRepeated = "Retry-Repeated"
	// HeaderReplay is how often the operation was replayed from the dead letters.
	HeaderReplay = "Retry-Replay"

	// What a worker needs to report: the attempt's secret token, the subject to report on, and
	// how long Rebound waits for a report, in milliseconds.
	HeaderToken   = "Retry-Token"
	HeaderReport  = "Retry-Report"
	HeaderTimeout = "Retry-Timeout"
	// HeaderResult is the result in a report made of headers; see [Result].
	HeaderResult = "Retry-Result"

	// The origin of an operation that no service submitted; see [Origin].
	HeaderOriginStream   = "Retry-Origin-Stream"
	HeaderOriginConsumer = "Retry-Origin-Consumer"
	HeaderOriginSequence = "Retry-Origin-Sequence"
	HeaderOriginSubject  = "Retry-Origin-Subject"

	// HeaderReason is why a dead letter's operation ended.
	HeaderReason = "Retry-Reason"
	// HeaderDetail explains the reason in a sentence.
	HeaderDetail = "Retry-Detail"
	// HeaderDeadSequence, on a replay, is the sequence of its dead letter in their stream.
	HeaderDeadSequence = "Retry-Dead-Sequence"

	// HeaderRetryAfter may accompany a target's error reply.
	HeaderRetryAfter = "Retry-After"

	// HeaderTraceParent is the header of W3C Trace Context.
	HeaderTraceParent = "traceparent"
)
