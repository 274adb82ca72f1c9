package schemas

import (
	"fmt"

	"github.com/rebound-mq/rebound/events"
)

// PauseAdd is the request of rebound.pause.
type PauseAdd struct {
	// Pattern says which keys, see [events.ParsePattern].
	Pattern string `json:"pattern"`
	// ForMs is after how long the pause ends by itself, in milliseconds; 0 for never.
	ForMs float64 `json:"forMs,omitempty"`
	// By and Note are shown to who looks: the operator's name, at most 128 bytes, and the
	// reason, at most 500.
	By   string `json:"by,omitempty"`
	Note string `json:"note,omitempty"`
}

// Check reports what is wrong with a request, its pattern apart.
func (a *PauseAdd) Check() error {
	if longest := events.InMilliseconds(events.LongestPause); a.ForMs < 0 || a.ForMs > longest {
		return fmt.Errorf("forMs is %v; a pause that ends by itself lasts for 0 to %.0f ms", a.ForMs, longest)
	}
	return events.CheckOperator(a.By, a.Note)
}

// PauseAdded is the answer to rebound.pause: the pause as it is now.
type PauseAdded struct {
	events.Pause
	// Replaced is whether it took the place of another one of the same pattern.
	Replaced bool `json:"replaced,omitempty"`
}

// PauseEnd is the request of rebound.resume.
type PauseEnd struct {
	// Pattern is the one that was paused.
	Pattern string `json:"pattern"`
	// By and Note are as those of [PauseAdd].
	By   string `json:"by,omitempty"`
	Note string `json:"note,omitempty"`
}

// PauseEnded is the answer to rebound.resume.
type PauseEnded struct {
	// Ended is the pause that has ended.
	Ended events.Pause `json:"ended"`
	// Paused are the pauses that still hold the key or service of the pattern.
	Paused []events.Pause `json:"paused,omitempty"`
}

// PauseList is the answer to rebound.pause.list.
type PauseList struct {
	// Pauses are those in force, by pattern.
	Pauses []events.Pause `json:"pauses"`
}
