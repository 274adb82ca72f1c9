package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/internal/backoff"
	"github.com/rebound-mq/rebound/scheduler"
	"github.com/rebound-mq/rebound/schemas"
)

const (
	// watchEvery is the pause between two looks at the service.
	watchEvery = 200 * time.Millisecond
	// watchTimeout bounds one look.
	watchTimeout = 2 * time.Second
)

// standing is what the service says of itself: its gates, and what they hold.
type standing struct {
	gates []scheduler.KeyReport
	// held counts the held operations by key.
	held map[string]int
	// problem says why the rest is not known or old, empty when it is not.
	problem string
}

// sums returns how many operations are held and in flight.
func (s standing) sums() (held, inFlight int) {
	for _, n := range s.held {
		held += n
	}
	for _, g := range s.gates {
		inFlight += g.InFlight
	}
	return held, inFlight
}

// watch asks the service for its standing, as any client may. It is safe for concurrent use.
type watch struct {
	nc *nats.Conn
	js jetstream.JetStream
	// waiting is the stream of waiting operations.
	waiting string

	mu       sync.Mutex // guards what follows
	standing standing
}

// last returns the last known standing.
func (w *watch) last() standing {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.standing
}

// run looks until ctx ends. A look that fails is shown, and the next one tried.
func (w *watch) run(ctx context.Context) error {
	for ctx.Err() == nil {
		s, err := w.look(ctx)
		w.mu.Lock()
		if err == nil {
			w.standing = s
		} else {
			w.standing.problem = err.Error()
		}
		w.mu.Unlock()
		backoff.Sleep(ctx, watchEvery)
	}
	return nil
}

// empty reports whether nothing is held.
func (w *watch) empty() bool {
	s := w.last()
	held, _ := s.sums()
	return held == 0 && s.problem == ""
}

func (w *watch) look(ctx context.Context) (s standing, err error) {
	ctx, cancel := context.WithTimeout(ctx, watchTimeout)
	defer cancel()
	answer, err := w.nc.RequestWithContext(ctx, events.Subjects{}.Endpoint("status"), nil)
	if err != nil {
		return s, fmt.Errorf("asking the service for its status: %w", err)
	}
	if code, text := wire.MicroError(answer.Header); code != "" {
		return s, fmt.Errorf("asking the service for its status: %w", errors.New(text))
	}
	var status schemas.Status
	if err := json.Unmarshal(answer.Data, &status); err != nil {
		return s, fmt.Errorf("reading the status of the service: %w", err)
	}
	s.gates = status.Gates
	slices.SortFunc(s.gates, func(a, b scheduler.KeyReport) int { return slices.Index(keys(), a.Key) - slices.Index(keys(), b.Key) })
	stream, err := w.js.Stream(ctx, w.waiting)
	if err != nil {
		return s, fmt.Errorf("reading stream %s: %w", w.waiting, err)
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(events.Subjects{}.AllHeld()))
	if err != nil {
		return s, fmt.Errorf("reading stream %s: %w", w.waiting, err)
	}
	s.held = make(map[string]int)
	for subject, n := range info.State.Subjects {
		if service, operation, ok := (events.Subjects{}).SplitHeld(subject); ok {
			s.held[events.Key(service, operation)] += int(n)
		}
	}
	return s, nil
}

// keys returns the keys of the demo's operations.
func keys() []string {
	out := make([]string, len(operationTypes))
	for i, o := range operationTypes {
		out[i] = events.Key(serviceName, o)
	}
	return out
}
