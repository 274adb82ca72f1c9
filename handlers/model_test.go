package handlers

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/opstore"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

// A world is JetStream as the product uses it, in virtual time: streams with
// sequences, slots that change by compare-and-set, schedules, work queues with
// leases, and message ids. Until a given time its answers are dishonest: calls are
// refused, replies are lost, writes arrive late, reads are stale; in some worlds a leader
// is elected that shows again what had been removed. Everything random follows from the
// seed, the caller, the request and how often it was made, so that a seed reproduces its
// history.
//
// It leaves out what remains by design: an outcome whose bytes reach the server more than
// two minutes after the last check for it, because its holder was frozen in between. It
// tolerates an unmarked repeat by a state that is stored late, after its holder died.
type world struct {
	seed  uint64
	began time.Time
	// honest is the time from which on the answers are honest and nobody dies.
	honest time.Time
	// wire carries reads, for which the client needs a connection.
	wire   *nats.Conn
	others sync.WaitGroup

	mu      sync.Mutex // guards the fields below
	asked   map[string]uint64
	streams map[string]*modelStream
	// consumers are the consumers of work queues, by stream and filter.
	consumers map[string]*modelConsumer
	// runs are the runs that must have one outcome each, and attempts the attempts that
	// reached a target, by run and number.
	runs     map[string]bool
	attempts map[string][]attempted
	// latest is how long after it was due the latest attempt came.
	latest time.Duration
	// late are the operations with a write that arrived late and was stored, or with an
	// older state that came back while the leader of the outcomes was behind.
	late map[string]bool
	// elects is whether killed leaders are elected again.
	elects bool
	line   []string // what happened
	blamed []string // what must not have happened
}

// modelStream is a stream, with everything that was ever stored in it.
type modelStream struct {
	name string
	// last is whether only the last message of each subject is kept.
	last bool
	all  []*storedMsg
	ids  map[string]*storedMsg
	// forgotten are the ids that a restarted leader no longer knows.
	forgotten map[string]bool
	// behind are the spans in which a newly elected leader lacks the latest messages.
	behind []span
	// away are the spans in which it has no leader.
	away []span
	// mute are the spans in which its leader has no quorum: it shows what is stored,
	// and writes never arrive.
	mute []span
	// elected is when a leader was elected that shows again what had been removed.
	elected time.Time
	changed chan struct{} // closed at the next change
}

type storedMsg struct {
	sequence uint64
	subject  string
	header   nats.Header
	data     []byte
	at       time.Time
	gone     time.Time // when it was removed, zero before
	ended    bool      // whether it was a schedule that fired or was ended
}

type span struct{ from, to time.Time }

func within(spans []span, now time.Time) (span, bool) {
	for _, s := range spans {
		if !now.Before(s.from) && now.Before(s.to) {
			return s, true
		}
	}
	return span{}, false
}

func (m *storedMsg) stands(at time.Time) bool {
	return !m.at.After(at) && (m.gone.IsZero() || m.gone.After(at))
}

func cloneHeader(h nats.Header) nats.Header {
	out := make(nats.Header, len(h))
	for k, v := range h {
		out[k] = append([]string(nil), v...)
	}
	return out
}

// roll returns the randomness for one call, by the caller, the request and how often it
// was made.
func (w *world) roll(who, what string) *rand.Rand {
	key := who + " " + what
	w.mu.Lock()
	w.asked[key]++
	n := w.asked[key]
	w.mu.Unlock()
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%s %d", key, n)
	return rand.New(rand.NewPCG(w.seed, h.Sum64()))
}

func chance(r *rand.Rand, p float64) bool { return r.Float64() < p }

func spread(r *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(r.Int64N(int64(to-from)))
}

// note writes a line of the history.
func (w *world) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.noteLocked(format, args...)
}

func (w *world) noteLocked(format string, args ...any) {
	w.line = append(w.line, fmt.Sprintf("%10.3f  ", time.Since(w.began).Seconds())+fmt.Sprintf(format, args...))
}

// short makes subjects and ids readable.
func short(subject string) string {
	tokens := strings.Split(strings.TrimPrefix(subject, "retry."), ".")
	for i, token := range tokens {
		if len(token) == 32 {
			tokens[i] = token[:4]
		}
	}
	return strings.Join(tokens, ".")
}

func (w *world) isHonest() bool { return !time.Now().Before(w.honest) }

// streamOf returns the stream that captures a subject.
func (w *world) streamOf(subject string) *modelStream {
	for prefix, name := range map[string]string{
		"retry.submit.": "RETRY_INTAKE", "retry.report.": "RETRY_INTAKE", "retry.parked.": "RETRY", "retry.due.": "RETRY", "retry.held.": "RETRY",
		"retry.outcome.": "RETRY_OUTCOMES", "retry.event.": "RETRY_OUTCOMES", "retry.dead.": "RETRY_DEAD", "retry.work.": "RETRY_WORK", "$KV.RETRY_LANES.": "KV_RETRY_LANES",
	} {
		if strings.HasPrefix(subject, prefix) {
			return w.streams[name]
		}
	}
	return nil
}

func (w *world) stream(name string) *modelStream { return w.streams[name] }

// apply stores a message as the leader does: it drops a known message id, refuses a write
// that expects another version, and ends schedules in the same step. forgets is whether
// ids that a restarted leader forgot count as unknown.
func (w *world) apply(msg *nats.Msg, forgets bool) (ack jetstream.PubAck, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s, now := w.streamOf(msg.Subject), time.Now()
	id := msg.Header.Get(jetstream.MsgIDHeader)
	known, forgotten := s.ids[id], forgets && s.forgotten[id]
	if id != "" && known != nil && !forgotten && now.Sub(known.at) < events.DedupWindow {
		return jetstream.PubAck{Stream: s.name, Sequence: known.sequence, Duplicate: true}, nil
	}
	if expected := msg.Header.Get(jetstream.ExpectedLastSubjSeqHeader); expected != "" {
		var last uint64
		if m := s.lastOn(msg.Header.Get(jetstream.ExpectedLastSubjSeqSubjHeader), now); m != nil {
			last = m.sequence
		}
		if strconv.FormatUint(last, 10) != expected {
			return ack, &jetstream.APIError{Code: 400, ErrorCode: jetstream.JSErrCodeStreamWrongLastSequence, Description: fmt.Sprintf("wrong last sequence: %d", last)}
		}
	}
	m := &storedMsg{subject: msg.Subject, header: cloneHeader(msg.Header), data: msg.Data}
	if schedule := msg.Header.Get(opstore.HeaderScheduler); schedule != "" {
		s.end(schedule, now)
	}
	if msg.Header.Get(jetstream.ScheduleHeader) != "" || s.last {
		s.purge(msg.Subject, now)
	}
	s.store(m, now)
	if id != "" {
		s.ids[id] = m
		delete(s.forgotten, id)
	}
	return jetstream.PubAck{Stream: s.name, Sequence: m.sequence}, nil
}

// store appends a message. The caller has locked the world.
func (s *modelStream) store(m *storedMsg, now time.Time) {
	m.sequence, m.at = uint64(len(s.all)+1), now
	s.all = append(s.all, m)
	s.touch()
}

func (s *modelStream) touch() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// purge removes the messages on a subject and returns them.
func (s *modelStream) purge(subject string, now time.Time) (purged []*storedMsg) {
	for _, m := range s.all {
		if m.subject == subject && m.gone.IsZero() {
			m.gone = now
			purged = append(purged, m)
		}
	}
	return purged
}

// end ends the schedule on a subject.
func (s *modelStream) end(subject string, now time.Time) {
	for _, m := range s.purge(subject, now) {
		m.ended = true
	}
}

// remove removes a message and reports whether it was there.
func (w *world) remove(stream string, sequence uint64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.streams[stream]
	if sequence == 0 || sequence > uint64(len(s.all)) || !s.all[sequence-1].gone.IsZero() {
		return false
	}
	s.all[sequence-1].gone = time.Now()
	s.touch()
	return true
}

// lastOn returns the last message on a subject, nil for none.
func (s *modelStream) lastOn(subject string, at time.Time) *storedMsg {
	for i := len(s.all) - 1; i >= 0; i-- {
		if m := s.all[i]; m.stands(at) && policy.Matches([]string{subject}, m.subject) {
			return m
		}
	}
	return nil
}

// matching returns the messages on a subject, oldest first.
func (s *modelStream) matching(subject string, at time.Time) []*storedMsg {
	var found []*storedMsg
	for _, m := range s.all {
		if m.stands(at) && policy.Matches([]string{subject}, m.subject) {
			found = append(found, m)
		}
	}
	return found
}

// seen returns the time whose state the leader shows.
func (w *world) seen(s *modelStream) time.Time {
	now := time.Now()
	if w.isHonest() {
		return now
	}
	if behind, ok := within(s.behind, now); ok {
		return behind.from
	}
	return now
}

// seenBy returns the time whose state any replica shows.
func (w *world) seenBy(s *modelStream, r *rand.Rand) time.Time {
	at := w.seen(s)
	if !w.isHonest() && chance(r, 0.1) {
		at = at.Add(-spread(r, 0, time.Second))
	}
	return at
}

// fire fires schedules as the server does, at multiples of 250 ms.
func (w *world) fire(done <-chan struct{}) {
	for {
		w.mu.Lock()
		s, now := w.streams["RETRY"], time.Now()
		next := time.Time{}
		for _, m := range s.matching(">", now) {
			at, ok := firesAt(m)
			switch {
			case !ok, s.lastOn(m.subject, now) != m: // the last one of a subject counts
			case at.After(now):
				if next.IsZero() || at.Before(next) {
					next = at
				}
			default:
				fired := &storedMsg{subject: m.header.Get(jetstream.ScheduleTargetHeader), header: cloneHeader(m.header), data: m.data}
				for name := range fired.header {
					if strings.HasPrefix(name, jetstream.ScheduleHeader) || strings.HasPrefix(name, "Nats-Expected-") || name == jetstream.MsgIDHeader {
						delete(fired.header, name)
					}
				}
				fired.header[opstore.HeaderScheduler], fired.header[opstore.HeaderScheduleNext] = []string{m.subject}, []string{opstore.SchedulePurge}
				s.end(m.subject, now)
				s.store(fired, now)
				w.noteLocked("server    fires %d %s: %d %s", m.sequence, short(m.subject), fired.sequence, short(fired.subject))
			}
		}
		changed := s.changed
		w.mu.Unlock()
		wait := time.Hour
		if !next.IsZero() {
			wait = max(time.Until(next), 250*time.Millisecond)
		}
		timer := time.NewTimer(wait)
		select {
		case <-done:
			timer.Stop()
			return
		case <-timer.C:
		case <-changed:
			timer.Stop()
		}
	}
}

// firesAt returns when the server fires a schedule, which is a multiple of 250 ms.
func firesAt(m *storedMsg) (time.Time, bool) {
	const grain = 250 * time.Millisecond
	at, ok := opstore.FiresAt(&jetstream.RawStreamMsg{Header: m.header})
	return at.Add(grain - 1).Truncate(grain), ok
}
