package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/events"
)

// PauseOptions are what an operator may say of a pause. The zero value is a pause without an end.
type PauseOptions struct {
	// For is after how long it ends by itself; 0 for never.
	For time.Duration
	// By is the operator's name, at most [events.MaxOperator] bytes, and Note the reason, at most
	// [events.MaxPauseNote]. Both are shown to who looks.
	By, Note string
}

// Pause makes the service send nothing of the keys that match a pattern to its target, whatever
// else says so, until [Client.Resume]: a key (billing:charge), a service (billing), or either with
// asterisks, see [events.ParsePattern]. All instances heed it. It replaces an earlier pause of the
// same pattern. The error is an [*Error] if the service refuses. [Execute] refuses the keys with a
// [*PausedError], in every process that does not set [Config.Local].
func (c *Client) Pause(ctx context.Context, pattern string, o PauseOptions) (events.Pause, error) {
	var added events.Pause
	if err := c.ask(ctx, "pause", pauseRequest{pattern, events.InMilliseconds(o.For), o.By, o.Note}, &added); err != nil {
		return events.Pause{}, fmt.Errorf("client: pausing %s: %w", pattern, err)
	}
	return added, nil
}

// Resume ends the pause of a pattern, which was said to [Client.Pause]. Of o it uses By and Note. It
// returns the pauses that still hold all of the pattern's keys.
func (c *Client) Resume(ctx context.Context, pattern string, o PauseOptions) ([]events.Pause, error) {
	var ended struct {
		Paused []events.Pause `json:"paused"`
	}
	if err := c.ask(ctx, "resume", pauseRequest{Pattern: pattern, By: o.By, Note: o.Note}, &ended); err != nil {
		return nil, fmt.Errorf("client: resuming %s: %w", pattern, err)
	}
	return ended.Paused, nil
}

// Pauses returns the pauses in force, by pattern.
func (c *Client) Pauses(ctx context.Context) ([]events.Pause, error) {
	var list struct {
		Pauses []events.Pause `json:"pauses"`
	}
	if err := c.ask(ctx, "pause.list", nil, &list); err != nil {
		return nil, fmt.Errorf("client: listing the pauses: %w", err)
	}
	return list.Pauses, nil
}

// pauseRequest is the request of the endpoints pause and resume.
type pauseRequest struct {
	Pattern string  `json:"pattern"`
	ForMs   float64 `json:"forMs,omitempty"`
	By      string  `json:"by,omitempty"`
	Note    string  `json:"note,omitempty"`
}

// ask sends a request to an endpoint of the service and decodes the answer.
func (c *Client) ask(ctx context.Context, endpoint string, request, into any) error {
	if err := c.connected(); err != nil {
		return err
	}
	m := nats.NewMsg(c.subjects.Endpoint(endpoint))
	if request != nil {
		var err error
		if m.Data, err = json.Marshal(request); err != nil {
			return err
		}
	}
	answer, err := c.nc.RequestMsgWithContext(ctx, m)
	if errors.Is(err, nats.ErrNoResponders) {
		return fmt.Errorf("no instance of the service answers: %w", err)
	}
	if err == nil {
		err = ErrorFromReply(answer)
	}
	if err == nil {
		err = json.Unmarshal(answer.Data, into)
	}
	return err
}
