package breaker

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// Store holds the circuits shared by several instances. [Memory] is one; the packages redisstore
// and natsstore have others. All methods are safe for concurrent use, return when ctx ends, and
// return an error if the store cannot be reached; whether an event was applied is then unknown. A
// store keeps what [Encode] returns and behaves like [Apply].
type Store interface {
	// Apply runs [Step] on the circuit of key atomically and notifies the watchers. now is on the
	// caller's clock; a store with its own clock ignores it.
	Apply(ctx context.Context, key string, e Event, now time.Time, s Settings) (Reply, error)
	// Load returns every circuit.
	Load(ctx context.Context) ([]Circuit, error)
	// Read returns the circuits of these keys, in any order, without those that the store lacks.
	Read(ctx context.Context, keys []string) ([]Circuit, error)
	// Forget drops what this process remembers of keys that it no longer uses. The store itself
	// is unchanged.
	Forget(keys []string)
	// Watch calls changed with changed circuits, until ctx ends or the connection is lost for
	// good, and returns an error. It calls ready whenever it starts to see changes, at first and
	// after each interruption: earlier changes must be loaded. It may omit a circuit of which
	// only the totals changed.
	Watch(ctx context.Context, ready func(), changed func(Circuit)) error
	// Ping returns an error unless the store is reachable.
	Ping(ctx context.Context) (Pulse, error)
}

// Reply is the answer to an [Event].
type Reply struct {
	// Circuit is the resulting circuit.
	Circuit Circuit
	Effect
	// Lost reports that the store has lost data, because its circuit is older than the one that
	// the event is based on. The event was not applied: the instance must first send what it
	// knows as a [Rejoin].
	Lost bool
	// Now is the time on the store's clock.
	Now time.Time
}

// Pulse is the result of a Ping.
type Pulse struct {
	// Epoch identifies the store's content. It changes when the store is emptied.
	Epoch string
	// Now is the time on the store's clock, zero if it uses the clocks of the instances.
	Now time.Time
}

// How long a store keeps an unused circuit, if [Event.Idle] is 0. An open circuit is kept until
// its timeout in addition.
const (
	CircuitTTL = 24 * time.Hour
	// HeldTTL is for a circuit that is held.
	HeldTTL = 30 * 24 * time.Hour
)

// TTL returns how long a store keeps the unused circuit c, to which e led; 0 if c must not be
// forgotten.
func (e *Event) TTL(c *Circuit, s *Settings) time.Duration {
	if !c.ordinary() || e.Idle <= 0 {
		return 0
	}
	return max(e.Idle, s.Window)
}

// ordinary reports whether the circuit allows every attempt and no operator has changed it, so
// that it may be forgotten once it is not used.
func (c *Circuit) ordinary() bool {
	switch c.Cause {
	case CauseTripped, CauseHeld, CauseReset:
		return false
	}
	return c.State == Closed && !c.Held && c.Note == ""
}

// Apply implements [Store.Apply] for a store that runs [Step] itself: c is the stored circuit, or
// a [NewCircuit] if there is none.
func Apply(c Circuit, e Event, now time.Time, s Settings) Reply {
	if e.Kind != Rejoin && (e.Seen > c.Version || e.Seen > 0 && e.SeenGeneration > c.Generation) {
		return Reply{Circuit: c, Lost: true, Now: now}
	}
	next, effect := Step(c, e, now, s)
	if effect.Written {
		next.Version++
	}
	return Reply{Circuit: next, Effect: effect, Now: now}
}

// record is a [Circuit] as the stores keep it: JSON with short names, times in milliseconds since
// 1970, zero values omitted. Whole numbers stay below the 14 digits that Redis's JSON library can
// write. redisstore's step.lua works on it.
type record struct {
	Key         string          `json:"key"`
	Version     uint64          `json:"v,omitempty"`
	State       State           `json:"state"`
	Failures    int             `json:"fails,omitempty"`
	LastFailure int64           `json:"last,omitempty"`
	NextAttempt int64           `json:"next,omitempty"`
	Attempts    int             `json:"tries,omitempty"`
	Successes   int             `json:"oks,omitempty"`
	Requests    uint64          `json:"n,omitempty"`
	AllFailures uint64          `json:"nf,omitempty"`
	Average     float64         `json:"ms,omitempty"`
	Held        bool            `json:"held,omitempty"`
	Generation  uint64          `json:"gen,omitempty"`
	Cause       Cause           `json:"cause,omitempty"`
	Note        string          `json:"note,omitempty"`
	ChangedAt   int64           `json:"at,omitempty"`
	ChangedBy   string          `json:"by,omitempty"`
	Error       string          `json:"err,omitempty"`
	OutageSince int64           `json:"out,omitempty"`
	Operated    *operatedRecord `json:"op,omitempty"`
	Probes      []probeRecord   `json:"probes,omitempty"`
	Window      []bucketRecord  `json:"win,omitempty"`
}

type operatedRecord struct {
	Action Cause  `json:"act"`
	By     string `json:"by,omitempty"`
	Note   string `json:"note,omitempty"`
	At     int64  `json:"at"`
}

type probeRecord struct {
	ID      string `json:"id"`
	Expires int64  `json:"exp"`
}

type bucketRecord struct {
	Start     int64 `json:"t"`
	Successes int   `json:"s"`
	Failures  int   `json:"f"`
}

// Encode returns c as the stores keep it.
func Encode(c *Circuit) ([]byte, error) {
	b, err := json.Marshal(toRecord(c))
	if err != nil {
		return nil, fmt.Errorf("breaker: encoding the circuit of %s: %w", c.ServiceKey, err)
	}
	return b, nil
}

// Decode reads what [Encode] wrote.
func Decode(data []byte) (Circuit, error) {
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		return Circuit{}, fmt.Errorf("breaker: decoding a stored circuit: %w", err)
	}
	return r.circuit(), nil
}

func toRecord(c *Circuit) record {
	r := record{
		Key: c.ServiceKey, Version: c.Version, State: c.State, Failures: c.FailureCount,
		LastFailure: millis(c.LastFailureTime), NextAttempt: millis(c.NextAttemptTime),
		Attempts: c.HalfOpenAttempts, Successes: c.HalfOpenSuccesses,
		Requests: c.TotalRequests, AllFailures: c.TotalFailures, Average: c.AverageResponseTime,
		Held: c.Held, Generation: c.Generation, Cause: c.Cause, Note: c.Note,
		ChangedAt: millis(c.ChangedAt), ChangedBy: c.ChangedBy, Error: c.LastError, OutageSince: millis(c.OutageSince),
	}
	if o := c.Operated; o != (Operated{}) {
		r.Operated = &operatedRecord{o.Action, o.By, o.Note, millis(o.At)}
	}
	for _, p := range c.Probes {
		r.Probes = append(r.Probes, probeRecord{ID: p.ID, Expires: millis(p.Expires)})
	}
	for _, b := range c.Window {
		r.Window = append(r.Window, bucketRecord{Start: millis(b.Start), Successes: b.Successes, Failures: b.Failures})
	}
	return r
}

func (r *record) circuit() Circuit {
	c := Circuit{
		Summary: Summary{
			ServiceKey: r.Key, State: r.State, FailureCount: r.Failures,
			LastFailureTime: fromMillis(r.LastFailure), NextAttemptTime: fromMillis(r.NextAttempt),
			HalfOpenAttempts: r.Attempts, HalfOpenSuccesses: r.Successes,
			TotalRequests: r.Requests, TotalFailures: r.AllFailures, AverageResponseTime: r.Average,
			Held: r.Held, Cause: r.Cause, Note: r.Note, ChangedAt: fromMillis(r.ChangedAt), ChangedBy: r.ChangedBy,
			LastError: r.Error, OutageSince: fromMillis(r.OutageSince),
		},
		Generation: r.Generation, Version: r.Version,
	}
	if o := r.Operated; o != nil {
		c.Operated = Operated{o.Action, o.By, o.Note, fromMillis(o.At)}
	}
	for _, p := range r.Probes {
		c.Probes = append(c.Probes, Probe{ID: p.ID, Expires: fromMillis(p.Expires)})
	}
	for _, b := range r.Window {
		c.Window = append(c.Window, Bucket{Start: fromMillis(b.Start), Successes: b.Successes, Failures: b.Failures})
	}
	return c
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}
