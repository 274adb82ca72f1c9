package breaker

import (
	"encoding/json"
	"fmt"
	"time"
)

// record is a [Circuit] as the stores keep it: JSON with short names, times in
// milliseconds since 1970, nothing that is zero. Every whole number stays below the
// 14 digits that Redis's JSON library writes. step.lua works on it.
type record struct {
	Key         string         `json:"key"`
	Version     uint64         `json:"v,omitempty"`
	State       State          `json:"state"`
	Failures    int            `json:"fails,omitempty"`
	LastFailure int64          `json:"last,omitempty"`
	NextAttempt int64          `json:"next,omitempty"`
	Attempts    int            `json:"tries,omitempty"`
	Successes   int            `json:"oks,omitempty"`
	Requests    uint64         `json:"n,omitempty"`
	AllFailures uint64         `json:"nf,omitempty"`
	Average     float64        `json:"ms,omitempty"`
	Held        bool           `json:"held,omitempty"`
	Generation  uint64         `json:"gen,omitempty"`
	Cause       Cause          `json:"cause,omitempty"`
	Note        string         `json:"note,omitempty"`
	ChangedAt   int64          `json:"at,omitempty"`
	ChangedBy   string         `json:"by,omitempty"`
	Probes      []probeRecord  `json:"probes,omitempty"`
	Window      []bucketRecord `json:"win,omitempty"`
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
		ChangedAt: millis(c.ChangedAt), ChangedBy: c.ChangedBy,
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
		ServiceKey: r.Key, Version: r.Version, State: r.State, FailureCount: r.Failures,
		LastFailureTime: fromMillis(r.LastFailure), NextAttemptTime: fromMillis(r.NextAttempt),
		HalfOpenAttempts: r.Attempts, HalfOpenSuccesses: r.Successes,
		TotalRequests: r.Requests, TotalFailures: r.AllFailures, AverageResponseTime: r.Average,
		Held: r.Held, Generation: r.Generation, Cause: r.Cause, Note: r.Note,
		ChangedAt: fromMillis(r.ChangedAt), ChangedBy: r.ChangedBy,
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
