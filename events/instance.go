package events

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/internal/strictjson"
)

// InstanceReport is what an instance tells the others of itself, once a second,
// as JSON on [Subjects.Instance]. It is Rebound's own and no part of the contract.
type InstanceReport struct {
	ID    string        `json:"id"`
	State InstanceState `json:"state"`
	// HostName is the name of its host, empty when it has none.
	HostName string    `json:"hostName,omitempty"`
	Version  string    `json:"version"`
	Started  time.Time `json:"started"`

	// InFlight counts the attempts under way, InHand the due operations that the
	// instance has in hand: those attempts, and what waits for one.
	InFlight int `json:"inFlight"`
	InHand   int `json:"inHand"`
	// Succeeded and Failed count the attempts of the last minute that speak of
	// their target's health.
	Succeeded int `json:"succeeded"`
	Failed    int `json:"failed"`

	// CPUUtilization and MemoryUtilization of the host are in percent, 0 to 100.
	// SystemLoad is its load average per core.
	CPUUtilization    float64 `json:"cpuUtilization"`
	MemoryUtilization float64 `json:"memoryUtilization"`
	SystemLoad        float64 `json:"systemLoad"`
	// StoreDelayMs is how long NATS or Redis takes to answer the instance,
	// whichever is slower, in milliseconds.
	StoreDelayMs float64 `json:"storeDelayMs"`

	// Backpressure is global backpressure as the instance has it.
	Backpressure Backpressure `json:"backpressure"`

	// Policies names the policies that the instance was started with, empty while
	// others are in force. It travels as a header, which an older instance passes
	// over, where a field would have it refuse the report.
	Policies string `json:"-"`
	// Delivered is what the consumers of due operations have delivered to the
	// instance, at most [MaxDelivered] of them. It travels in headers, too.
	Delivered []Delivered `json:"-"`
}

// Delivered is the latest message that a consumer has delivered to an instance.
type Delivered struct {
	Consumer string
	// Made is when the consumer was made, which tells it from one of the same name
	// before it.
	Made time.Time
	// Sequence is that of the message in its stream, above 0.
	Sequence uint64
}

const (
	// headerPolicies bears [InstanceReport.Policies], headerDelivered each of
	// [InstanceReport.Delivered]: consumer, nanoseconds since 1970 and sequence.
	headerPolicies  = "Retry-Policies"
	headerDelivered = "Retry-Delivered"
)

// MaxDelivered is of how many consumers a report may tell.
const MaxDelivered = 8

// InstanceState is where an instance is in its life.
type InstanceState string

// The states.
const (
	// InstanceJoining has just started and asks the others to report at once.
	InstanceJoining InstanceState = "joining"
	// InstanceServing is up.
	InstanceServing InstanceState = "serving"
	// InstanceLeaving has stopped: it is heard of for the last time.
	InstanceLeaving InstanceState = "leaving"
)

const (
	// maxInstanceReport bounds a report, in bytes.
	maxInstanceReport = 4 << 10
	maxHostName       = 255
	maxVersion        = 128
	maxPolicies       = 255
)

// MaxInstanceFigure is the largest count, load or delay that an [InstanceReport]
// may have.
const MaxInstanceFigure = 1e9

// Message returns the message that tells the others. The error is that of a report
// that nobody would take.
func (r *InstanceReport) Message(subjects Subjects) (*nats.Msg, error) {
	data, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encoding the report of instance %s: %w", clip(r.ID, 80), err)
	}
	m := &nats.Msg{Subject: subjects.Instance(r.ID), Data: data, Header: make(nats.Header)}
	if isLine(r.Policies, maxPolicies) && r.Policies != "" {
		m.Header.Set(headerPolicies, r.Policies)
	}
	for _, d := range r.Delivered {
		m.Header.Add(headerDelivered, fmt.Sprintf("%s %d %d", d.Consumer, d.Made.UnixNano(), d.Sequence))
	}
	if _, err := DecodeInstance(subjects, m); err != nil {
		return nil, fmt.Errorf("the report of instance %s: %w", clip(r.ID, 80), err)
	}
	return m, nil
}

// DecodeInstance reads a report from a message on a [Subjects.Instance] subject,
// strictly: whoever may publish there could send anything. The error lists every
// fault.
func DecodeInstance(subjects Subjects, m *nats.Msg) (InstanceReport, error) {
	id, err := subjects.SplitInstance(m.Subject)
	if err != nil {
		return InstanceReport{}, err
	}
	if len(m.Data) > maxInstanceReport {
		return InstanceReport{}, fmt.Errorf("the report has %d bytes, more than the %d allowed", len(m.Data), maxInstanceReport)
	}
	var r InstanceReport
	if err := strictjson.Unmarshal(m.Data, &r); err != nil {
		return InstanceReport{}, fmt.Errorf("reading the report: %w", err)
	}
	if r.Policies = m.Header.Get(headerPolicies); !isLine(r.Policies, maxPolicies) {
		return InstanceReport{}, fmt.Errorf("header %s is no line of at most %d bytes", headerPolicies, maxPolicies)
	}
	if r.Delivered, err = decodeDelivered(m.Header.Values(headerDelivered)); err != nil {
		return InstanceReport{}, err
	}
	if err := r.check(id); err != nil {
		return InstanceReport{}, err
	}
	return r, nil
}

// decodeDelivered reads the headers that say what consumers have delivered.
func decodeDelivered(values []string) ([]Delivered, error) {
	if len(values) > MaxDelivered {
		return nil, fmt.Errorf("header %s stands %d times, more than the %d allowed", headerDelivered, len(values), MaxDelivered)
	}
	var all []Delivered
	for _, v := range values {
		fields := strings.Split(v, " ")
		if len(fields) != 3 || CheckName(fields[0]) != nil {
			return nil, fmt.Errorf("header %s: %q is no consumer, time and sequence", headerDelivered, clip(v, 80))
		}
		made, err := strconv.ParseInt(fields[1], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("header %s: the time %q is no number", headerDelivered, clip(fields[1], 40))
		}
		sequence, err := strconv.ParseUint(fields[2], 10, 64)
		if err != nil || sequence == 0 {
			return nil, fmt.Errorf("header %s: %q is no sequence", headerDelivered, clip(fields[2], 40))
		}
		all = append(all, Delivered{Consumer: fields[0], Made: time.Unix(0, made).UTC(), Sequence: sequence})
	}
	return all, nil
}

// check reports what is wrong with a report of the instance id.
func (r *InstanceReport) check(id string) error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if r.ID != id {
		fault("id %q differs from %q in the subject", clip(r.ID, 80), id)
	}
	switch r.State {
	case InstanceJoining, InstanceServing, InstanceLeaving:
	default:
		fault("state %q is none of joining, serving, leaving", clip(string(r.State), 40))
	}
	if !isLine(r.HostName, maxHostName) {
		fault("hostName is no line of at most %d bytes", maxHostName)
	}
	if !isLine(r.Version, maxVersion) {
		fault("version is no line of at most %d bytes", maxVersion)
	}
	if r.Started.IsZero() {
		fault("started is missing")
	}
	for _, f := range []struct {
		name        string
		value, most float64
	}{
		{"inFlight", float64(r.InFlight), MaxInstanceFigure},
		{"inHand", float64(r.InHand), MaxInstanceFigure},
		{"succeeded", float64(r.Succeeded), MaxInstanceFigure},
		{"failed", float64(r.Failed), MaxInstanceFigure},
		{"cpuUtilization", r.CPUUtilization, 100},
		{"memoryUtilization", r.MemoryUtilization, 100},
		{"systemLoad", r.SystemLoad, MaxInstanceFigure},
		{"storeDelayMs", r.StoreDelayMs, MaxInstanceFigure},
	} {
		if !(f.value >= 0 && f.value <= f.most) {
			fault("%s is %v, not between 0 and %.f", f.name, f.value, f.most)
		}
	}
	switch b := r.Backpressure; {
	case b.On && CheckName(b.Cause) != nil:
		fault("backpressure is on with the cause %q, which is no name", clip(b.Cause, 80))
	case b.On && b.Since.IsZero():
		fault("backpressure is on since no time")
	case !b.On && b.Cause != "":
		fault("backpressure is off and has the cause %q", clip(b.Cause, 80))
	}
	return errors.Join(faults...)
}

// isLine reports whether s is at most limit bytes of printable text.
func isLine(s string, limit int) bool {
	return len(s) <= limit && utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}
