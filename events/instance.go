package events

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/rebound-mq/rebound/internal/clip"
)

// InstanceReport is what an instance reports to the others once a second, as JSON on
// [Subjects.Instance]. It is internal to Rebound and no part of the contract.
type InstanceReport struct {
	ID    string        `json:"id"`
	State InstanceState `json:"state"`
	// HostName is the name of its host, empty if unknown.
	HostName string    `json:"hostName,omitempty"`
	Version  string    `json:"version"`
	Started  time.Time `json:"started"`

	// InFlight counts the attempts under way, InHand also the due operations waiting in the
	// instance for an attempt.
	InFlight int `json:"inFlight"`
	InHand   int `json:"inHand"`
	// Succeeded and Failed count the attempts of the last minute that count for their target's
	// health.
	Succeeded int `json:"succeeded"`
	Failed    int `json:"failed"`

	// CPUUtilization and MemoryUtilization are the host's, in percent, 0 to 100. SystemLoad is
	// its load average per core.
	CPUUtilization    float64 `json:"cpuUtilization"`
	MemoryUtilization float64 `json:"memoryUtilization"`
	SystemLoad        float64 `json:"systemLoad"`
	// StoreDelayMs is the response time of NATS or Redis, whichever is slower, in milliseconds.
	StoreDelayMs float64 `json:"storeDelayMs"`

	// Backpressure is global backpressure as this instance knows it.
	Backpressure Backpressure `json:"backpressure"`

	// Policies names the policies that the instance was started with, empty while others are in
	// force. It is sent as a header, which older instances ignore; as a field, they would refuse
	// the report.
	Policies string `json:"-"`
	// Store names where it shares breakers and limits, nats or redis; empty if it is older than
	// this field. It is sent as a header, too.
	Store string `json:"-"`
	// Delivered are the positions of the consumers of due operations, at most [MaxDelivered].
	// They are sent as headers, too.
	Delivered []Delivered `json:"-"`
	// Capacity says how far the instance keeps up. It is sent as a header, too.
	Capacity Capacity `json:"-"`
	// Services are the services with attempts in the last 10 seconds, in ascending order of
	// their hashes, the first [MaxServices]. They are sent as a header, too.
	Services []ServiceAttempts `json:"-"`
	// Evidence is what this instance measured at services, at most [MaxEvidence] of them. A report
	// has what changed since the last; the rest follows by turns. It is sent as a header, too.
	Evidence []ServiceEvidence `json:"-"`
}

// ServiceEvidence is what an instance measured at the targets of one service.
type ServiceEvidence struct {
	Service string
	// Results has a bit for each of the last Count attempts that count for the service's health, at
	// most [MaxResults]: 1 for a failure. The lowest bit is the latest.
	Results uint64
	Count   int
	// Ages are how long ago the attempts [ResultsDated] ended, in milliseconds, ascending.
	Ages []int64
	// Mean and P95 describe the response times; 0 when there are none. Trend and Variation are
	// those of package health.
	Mean, P95        time.Duration
	Trend, Variation float64
	// Absent reports whether nobody listens on a target of the service.
	Absent bool
}

// MaxEvidence bounds [InstanceReport.Evidence], and MaxResults the attempts of each.
const (
	MaxEvidence = 64
	MaxResults  = 64
)

// ResultsDated returns which of count attempts have an age in [ServiceEvidence], counted from the
// latest: 0, 1, 2, 4, 8 and so on, and the last. The others lie evenly between these.
func ResultsDated(count int) []int {
	var dated []int
	for k := 0; k < count-1; k = max(2*k, k+1) {
		dated = append(dated, k)
	}
	if count > 0 {
		dated = append(dated, count-1)
	}
	return dated
}

// Capacity says how far an instance keeps up with its work and how much it takes.
type Capacity struct {
	// Overload is 1 when the instance is at a limit of what it may wait for CPU, and 0 when it
	// waits for nothing.
	Overload float64 `json:"overload"`
	// InHandLimit is how many due operations it may have in hand now, 0 when unknown, and
	// LimitedBy what lowers that, empty when nothing does.
	InHandLimit int    `json:"inHandLimit"`
	LimitedBy   string `json:"limitedBy,omitempty"`
}

// ServiceAttempts counts the recent attempts at the targets of one service that count for its
// health.
type ServiceAttempts struct {
	Service           ServiceHash
	Succeeded, Failed int
}

// ServiceHash stands for the name of a service in reports: it is short, whatever the name.
type ServiceHash uint64

// HashService returns the hash of a service's name, the same at every instance: 48 bits, so
// that two of a thousand services share one with a probability of 2e-9.
func HashService(name string) ServiceHash {
	sum := sha256.Sum256([]byte(name))
	return ServiceHash(binary.BigEndian.Uint64(sum[:]) >> 16)
}

// MaxServices bounds [InstanceReport.Services].
const MaxServices = 128

// Delivered is the latest message that a consumer has delivered to an instance.
type Delivered struct {
	Consumer string
	// Made is when the consumer was created, which distinguishes it from earlier ones of the same
	// name.
	Made time.Time
	// Sequence is the message's sequence in its stream, above 0.
	Sequence uint64
}

// MaxDelivered bounds [InstanceReport.Delivered].
const MaxDelivered = 8

// InstanceState is the stage of an instance's life.
type InstanceState string

// The states of an instance.
const (
	// InstanceJoining has just started and asks the others to report at once.
	InstanceJoining InstanceState = "joining"
	// InstanceServing is up.
	InstanceServing InstanceState = "serving"
	// InstanceLeaving has stopped and makes its last report.
	InstanceLeaving InstanceState = "leaving"
)

const (
	maxHostName = 255
	maxVersion  = 128
)

// MaxInstanceFigure is the largest count, load or delay of an [InstanceReport].
const MaxInstanceFigure = 1e9

// Check reports every problem of a report that was received from the instance id.
func (r *InstanceReport) Check(id string) error {
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if r.ID != id {
		add("id %q differs from %q in the subject", clip.Text(r.ID, 80), id)
	}
	switch r.State {
	case InstanceJoining, InstanceServing, InstanceLeaving:
	default:
		add("state %q is none of joining, serving, leaving", clip.Text(string(r.State), 40))
	}
	if !clip.IsLine(r.HostName, maxHostName) {
		add("hostName is no line of at most %d bytes", maxHostName)
	}
	if !clip.IsLine(r.Version, maxVersion) {
		add("version is no line of at most %d bytes", maxVersion)
	}
	if r.Started.IsZero() {
		add("started is missing")
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
		{"overload", r.Capacity.Overload, MaxInstanceFigure},
		{"inHandLimit", float64(r.Capacity.InHandLimit), MaxInstanceFigure},
	} {
		if !(f.value >= 0 && f.value <= f.most) {
			add("%s is %v, not between 0 and %.f", f.name, f.value, f.most)
		}
	}
	for what, name := range map[string]string{"store": r.Store, "limitedBy": r.Capacity.LimitedBy} {
		if name != "" && CheckName(name) != nil {
			add("%s %q is no name", what, clip.Text(name, 80))
		}
	}
	return errors.Join(append(errs, r.Backpressure.check())...)
}

func (b *Backpressure) check() error {
	switch {
	case b.On && CheckName(b.Cause) != nil:
		return fmt.Errorf("backpressure is on with the cause %q, which is no name", clip.Text(b.Cause, 80))
	case b.On && b.Since.IsZero():
		return errors.New("backpressure is on since no time")
	case !b.On && b.Cause != "":
		return fmt.Errorf("backpressure is off and has the cause %q", clip.Text(b.Cause, 80))
	}
	return nil
}
