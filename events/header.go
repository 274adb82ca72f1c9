package events

// The headers that Rebound reads and writes.
const (
	// HeaderState carries the state of an operation from step to step. It
	// never reaches a target.
	HeaderState = "Retry-State"
	// HeaderWork carries, beside it, the attempt that a worker makes.
	HeaderWork = "Retry-Work"

	// What a target finds on a redelivered operation.
	HeaderID           = "Retry-Id"
	HeaderAttempt      = "Retry-Attempt"
	HeaderFirstFailure = "Retry-First-Failure"
	HeaderDeadline     = "Retry-Deadline"
	// HeaderRepeated is "true" when the same attempt may have reached the
	// target before, because the instance that made it died.
	HeaderRepeated = "Retry-Repeated"
	// HeaderReplay is how often the operation was replayed from the dead
	// letters.
	HeaderReplay = "Retry-Replay"

	// What a worker finds besides, to report with: a token that nobody else
	// knows, the subject to report on, and for how many milliseconds it may be
	// silent.
	HeaderToken   = "Retry-Token"
	HeaderReport  = "Retry-Report"
	HeaderTimeout = "Retry-Timeout"
	// HeaderResult says in a report that consists of headers how the attempt
	// goes; see [Result].
	HeaderResult = "Retry-Result"

	// Where an operation comes from that no service submitted; see [Origin].
	HeaderOriginStream   = "Retry-Origin-Stream"
	HeaderOriginConsumer = "Retry-Origin-Consumer"
	HeaderOriginSequence = "Retry-Origin-Sequence"
	HeaderOriginSubject  = "Retry-Origin-Subject"

	// HeaderReason says on a dead letter why the operation ended.
	HeaderReason = "Retry-Reason"
	// HeaderDetail says it in a sentence.
	HeaderDetail = "Retry-Detail"
	// HeaderDeadSequence names, on a replay, the dead letter that it replays
	// by its sequence in the stream of dead letters.
	HeaderDeadSequence = "Retry-Dead-Sequence"

	// What a target may answer with.
	HeaderRetryAfter = "Retry-After"

	// HeaderTraceParent is that of W3C Trace Context.
	HeaderTraceParent = "traceparent"
)
