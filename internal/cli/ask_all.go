package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/synadia-io/orbit.go/natsext"

	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/handlers"
)

const (
	// stall is how long after an answer another instance's is waited for.
	stall = 250 * time.Millisecond
	// allTimeout bounds the wait for all of them.
	allTimeout = 2 * time.Second
)

// askAll asks every instance for what it sees itself. The answer is empty when
// no instance is running, or only those of a version that cannot tell.
func askAll[T any](ctx context.Context, s *session, endpoint, what string) ([]T, error) {
	ctx, cancel := context.WithTimeout(ctx, allTimeout)
	defer cancel()
	replies, err := natsext.RequestMany(ctx, s.nc.Conn, handlers.ServiceName+"."+endpoint, nil, natsext.RequestManyStall(stall))
	if err != nil {
		return nil, fmt.Errorf("asking for %s: %w", what, err)
	}
	all := []T{}
	for m, err := range replies {
		switch {
		case errors.Is(err, nats.ErrNoResponders):
			return all, nil
		case err != nil:
			return nil, fmt.Errorf("asking for %s: %w", what, err)
		}
		if code, text := wire.MicroError(m.Header); code != "" {
			return nil, &answerError{code: code, text: text}
		}
		var answer T
		if err := json.Unmarshal(m.Data, &answer); err != nil {
			return nil, fmt.Errorf("decoding %s: %w", what, err)
		}
		all = append(all, answer)
	}
	return all, nil
}
