package opstore

import (
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/events/wire"
)

// Headers that make the server end the schedule on another subject in the step that
// stores a message. Messages fired by a schedule have them too.
const (
	HeaderScheduler    = "Nats-Scheduler"
	HeaderScheduleNext = "Nats-Schedule-Next"
	// SchedulePurge is the value of [HeaderScheduleNext] that ends a schedule.
	SchedulePurge = "purge"
)

// FiresAt returns when a schedule fires; ok is false for any other message.
func FiresAt(m *jetstream.RawStreamMsg) (at time.Time, ok bool) {
	text, ok := strings.CutPrefix(wire.HeaderValue(m.Header, jetstream.ScheduleHeader), "@at ")
	if !ok {
		return time.Time{}, false
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	return at, err == nil
}

// fireAt makes msg a schedule.
func fireAt(msg *nats.Msg, at time.Time, target string) {
	msg.Header[jetstream.ScheduleHeader] = []string{"@at " + at.UTC().Format(time.RFC3339Nano)}
	msg.Header[jetstream.ScheduleTargetHeader] = []string{target}
}

// endSchedule makes the publishing of msg end the schedule on a subject.
func endSchedule(msg *nats.Msg, subject string) {
	msg.Header[HeaderScheduler] = []string{subject}
	msg.Header[HeaderScheduleNext] = []string{SchedulePurge}
}

// expect makes the publishing of msg a compare-and-set.
func expect(msg *nats.Msg, slot string, version uint64) {
	msg.Header[jetstream.ExpectedLastSubjSeqHeader] = []string{strconv.FormatUint(version, 10)}
	msg.Header[jetstream.ExpectedLastSubjSeqSubjHeader] = []string{slot}
}
