package events

import (
	"errors"
	"fmt"
	"time"

	"github.com/rebound-mq/rebound/internal/clip"
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
	maxHostName = 255
	maxVersion  = 128
)

// MaxInstanceFigure is the largest count, load or delay that an [InstanceReport]
// may have.
const MaxInstanceFigure = 1e9

// Check reports what is wrong with a report of the instance id.
func (r *InstanceReport) Check(id string) error {
	var issues []error
	issue := func(format string, args ...any) { issues = append(issues, fmt.Errorf(format, args...)) }
	if r.ID != id {
		issue("id %q differs from %q in the subject", clip.Text(r.ID, 80), id)
	}
	switch r.State {
	case InstanceJoining, InstanceServing, InstanceLeaving:
	default:
		issue("state %q is none of joining, serving, leaving", clip.Text(string(r.State), 40))
	}
	if !clip.IsLine(r.HostName, maxHostName) {
		issue("hostName is no line of at most %d bytes", maxHostName)
	}
	if !clip.IsLine(r.Version, maxVersion) {
		issue("version is no line of at most %d bytes", maxVersion)
	}
	if r.Started.IsZero() {
		issue("started is missing")
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
			issue("%s is %v, not between 0 and %.f", f.name, f.value, f.most)
		}
	}
	switch b := r.Backpressure; {
	case b.On && CheckName(b.Cause) != nil:
		issue("backpressure is on with the cause %q, which is no name", clip.Text(b.Cause, 80))
	case b.On && b.Since.IsZero():
		issue("backpressure is on since no time")
	case !b.On && b.Cause != "":
		issue("backpressure is off and has the cause %q", clip.Text(b.Cause, 80))
	}
	return errors.Join(issues...)
}
