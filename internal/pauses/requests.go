package pauses

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/schemas"
)

// Requests carries out what operators ask for. It is safe for concurrent use.
type Requests struct {
	Bucket   *Bucket
	Follower *Follower
	Subjects events.Subjects
	// Publish stores an event; what says what for.
	Publish func(ctx context.Context, what string, m *nats.Msg) error
	// Now is the server's time.
	Now func() time.Time
	Log *slog.Logger
}

// InvalidError says what is wrong with a request.
type InvalidError struct{ error }

func (e InvalidError) Unwrap() error { return e.error }

// Add pauses what a pattern matches. The error of a bad request is an [InvalidError].
func (q *Requests) Add(ctx context.Context, request schemas.PauseAdd) (schemas.PauseAdded, error) {
	pattern, err := events.ParsePattern(request.Pattern)
	if err == nil {
		err = request.Check()
	}
	if err != nil {
		return schemas.PauseAdded{}, InvalidError{err}
	}
	list := q.Follower.List()
	replaces := slices.ContainsFunc(list, func(p events.Pause) bool { return p.Pattern == pattern })
	if len(list) >= events.MaxPauses && !replaces {
		return schemas.PauseAdded{}, InvalidError{fmt.Errorf("there are %d pauses and can be no more; one pattern may stand for many keys", len(list))}
	}
	pause := events.Pause{Pattern: pattern, By: request.By, Note: request.Note, At: q.now()}
	if request.ForMs > 0 {
		pause.Until = pause.At.Add(events.Milliseconds(request.ForMs))
	}
	if err := q.Bucket.Put(ctx, pause); err != nil {
		return schemas.PauseAdded{}, err
	}
	if err := q.Follower.Await(ctx, func(list []events.Pause) bool { return has(list, pause) }); err != nil {
		return schemas.PauseAdded{}, fmt.Errorf("%s is paused, but this instance has not heard of it yet: %w", pattern, err)
	}
	q.tell(ctx, events.PauseChange{
		Pattern: pattern, Paused: true, Cause: events.CausePaused, By: pause.By, Note: pause.Note, At: pause.At, Until: pause.Until,
	})
	return schemas.PauseAdded{Pause: pause, Replaced: replaces}, nil
}

// End resumes what a pattern matches. The error is [ErrNotPaused] if it has no pause of its own.
func (q *Requests) End(ctx context.Context, request schemas.PauseEnd) (schemas.PauseEnded, error) {
	pattern, err := events.ParsePattern(request.Pattern)
	if err == nil {
		err = events.CheckOperator(request.By, request.Note)
	}
	if err != nil {
		return schemas.PauseEnded{}, InvalidError{err}
	}
	was, err := q.Bucket.Remove(ctx, pattern)
	if errors.Is(err, ErrNotPaused) {
		return schemas.PauseEnded{}, notPaused(pattern, q.Follower.List())
	}
	if err != nil {
		return schemas.PauseEnded{}, err
	}
	if err := q.Follower.Await(ctx, func(list []events.Pause) bool { return !has(list, was) }); err != nil {
		return schemas.PauseEnded{}, fmt.Errorf("%s is resumed, but this instance has not heard of it yet: %w", pattern, err)
	}
	q.tell(ctx, events.PauseChange{Pattern: pattern, Cause: events.CauseResumed, By: request.By, Note: request.Note, At: q.now()})
	return schemas.PauseEnded{Ended: was, Paused: covering(pattern, q.Follower.List())}, nil
}

// List returns the pauses in force.
func (q *Requests) List(context.Context, struct{}) (schemas.PauseList, error) {
	return schemas.PauseList{Pauses: q.Follower.List()}, nil
}

// now returns the time as it is kept.
func (q *Requests) now() time.Time { return q.Now().UTC().Truncate(time.Millisecond) }

// tell publishes what an operator did. It is in force whether that succeeds or not.
func (q *Requests) tell(ctx context.Context, c events.PauseChange) {
	log := q.Log.With("pattern", c.Pattern.String(), "by", c.By, "note", c.Note)
	if !c.Until.IsZero() {
		log = log.With("until", c.Until)
	}
	log.Info("an operator has " + c.Cause + " keys")
	if err := publish(ctx, q.Subjects, q.Publish, c); err != nil {
		q.Log.Error("a change of the pauses could not be published", "pattern", c.Pattern, "error", err)
	}
}

// publish stores the event of a change. Its id is the same at every instance.
func publish(ctx context.Context, subjects events.Subjects, store func(context.Context, string, *nats.Msg) error, c events.PauseChange) error {
	m, err := wire.EncodeEvent(subjects.PauseChanges(), wire.Event{
		Name: events.PauseChanged, ID: c.Pattern.String() + "." + strconv.FormatInt(c.At.UnixMilli(), 36) + "." + c.Cause + "." + events.PauseChanged,
		About: events.AboutAll, Time: c.At, Data: c,
	})
	if err != nil {
		return err
	}
	return store(ctx, "telling of the pause of "+c.Pattern.String(), m)
}

// has reports whether a list has a pause.
func has(list []events.Pause, p events.Pause) bool {
	return slices.ContainsFunc(list, func(o events.Pause) bool {
		return o.Pattern == p.Pattern && o.By == p.By && o.Note == p.Note && o.At.Equal(p.At) && o.Until.Equal(p.Until)
	})
}

// covering returns the pauses that hold all that a pattern matches.
func covering(pattern events.Pattern, list []events.Pause) (all []events.Pause) {
	for _, p := range list {
		if p.Pattern.Covers(pattern) {
			all = append(all, p)
		}
	}
	return all
}

// notPaused returns the error that a pattern has no pause, and names those that hold it.
func notPaused(pattern events.Pattern, list []events.Pause) error {
	var names []string
	for _, p := range covering(pattern, list) {
		names = append(names, p.Pattern.String())
	}
	if len(names) == 0 {
		return fmt.Errorf("%s %w", pattern, ErrNotPaused)
	}
	return fmt.Errorf("%s by itself %w; it is held by the pause of %s", pattern, ErrNotPaused, strings.Join(names, " and of "))
}
