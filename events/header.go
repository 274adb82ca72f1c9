package events

import (
	"strings"
	"unicode/utf8"
)

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

	// HeaderStatus stands for the header [HeaderServerStatus] of a message without payload, while
	// that is stored in a stream.
	HeaderStatus = "Retry-Status"
	// HeaderServerStatus is the header, in this spelling only, by which nats.go recognises messages
	// of the server, which have no payload. It takes an operation's for one and drops it.
	HeaderServerStatus = "Status"

	// HeaderTraceParent is the header of W3C Trace Context.
	HeaderTraceParent = "traceparent"
)

// OwnHeaders lists Rebound's own headers. They are taken out of a submission, in any letter case,
// because Rebound sets them itself, or because a worker that reports by echoing the headers of its
// message would send them back as its own.
var OwnHeaders = []string{
	HeaderState, HeaderWork,
	HeaderID, HeaderAttempt, HeaderFirstFailure, HeaderDeadline, HeaderRepeated, HeaderReplay,
	HeaderToken, HeaderReport, HeaderTimeout, HeaderResult, HeaderRetryAfter,
	HeaderOriginStream, HeaderOriginConsumer, HeaderOriginSequence, HeaderOriginSubject,
	HeaderReason, HeaderDetail, HeaderDeadSequence, HeaderDiedAt, HeaderSubmittedTo, HeaderTruncated,
	HeaderStatus,
}

// ServerHeaders lists the headers of the NATS server and of NATS micro, which are taken out of a
// submission as well: a stream would act on them again, or they tell of a delivery that is over.
// An entry that ends in an asterisk stands for every name that begins so; the server itself
// removes these from what a schedule fires.
var ServerHeaders = []string{
	"Nats-Msg-Id", "Nats-Expected-*", "Nats-TTL", "Nats-Rollup", "Nats-Incr", "Nats-Counter-Sources", "Nats-Batch-*",
	"Nats-Schedule*", "Nats-Marker-Reason", "Nats-Required-Api-Level",
	"Nats-Stream", "Nats-Subject", "Nats-Sequence", "Nats-Time-Stamp", "Nats-Last-Sequence", "Nats-Num-Pending", "Nats-UpTo-Sequence",
	"Nats-Stream-Source", "Nats-Stream-Identity", "Nats-Last-Consumer", "Nats-Last-Stream", "Nats-Consumer-Stalled",
	"Nats-Msg-Size", "Nats-Response-Type", "Nats-Pending-Messages", "Nats-Pending-Bytes", "Nats-Pin-Id",
	"Nats-Trace-Dest", "Nats-Trace-Hop", "Nats-Trace-Origin-Account", "Nats-Trace-Only", "Nats-Request-Info", "Nats-Server-Xkey",
	"Nats-Service-Error", "Nats-Service-Error-Code",
}

// owned holds [OwnHeaders] and [ServerHeaders] as they are spelt there and in lower case.
// ownedFamilies holds the entries with an asterisk, in lower case without it.
var owned, ownedFamilies = ownedHeaders()

func ownedHeaders() (names map[string]bool, families []string) {
	names = make(map[string]bool)
	for _, list := range [][]string{OwnHeaders, ServerHeaders} {
		for _, name := range list {
			if family, ok := strings.CutSuffix(name, "*"); ok {
				families = append(families, strings.ToLower(family))
				continue
			}
			names[name], names[strings.ToLower(name)] = true, true
		}
	}
	return names, families
}

// maxOwned is the length of the longest name that the server knows at least, in bytes.
const maxOwned = 64

// IsOwned reports whether a header, in any letter case, is one of [OwnHeaders] or
// [ServerHeaders]. All others belong to the submission and come back with it.
func IsOwned(name string) bool {
	if len(name) < len("Nats-") || name[0]|0x20 != 'n' && name[0]|0x20 != 'r' {
		return false // the first letters of all names listed
	}
	if owned[name] {
		return true
	}
	var room [maxOwned]byte
	folded := appendFolded(room[:0], name)
	if owned[string(folded)] {
		return true
	}
	for _, family := range ownedFamilies {
		if len(folded) >= len(family) && string(folded[:len(family)]) == family {
			return true
		}
	}
	return false
}

// appendFolded appends a name in lower case. Only two characters beyond ASCII are letters of a
// listed name in another case: the long s and the sign for kelvin.
func appendFolded(folded []byte, name string) []byte {
	for _, c := range name {
		switch {
		case 'A' <= c && c <= 'Z':
			c |= 0x20
		case c == '\u017f':
			c = 's'
		case c == '\u212a':
			c = 'k'
		}
		folded = utf8.AppendRune(folded, c)
	}
	return folded
}
