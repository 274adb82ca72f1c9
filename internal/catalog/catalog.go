package catalog

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/spelling"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/schemas"
)

const (
	// maxKeys bounds the keys that are searched for similar names.
	maxKeys = 20_000
	// maxNearest is how many similar names are named.
	maxNearest = 3
)

// Catalog finds services and keys. What no stream holds any more, no instance uses and no policy
// names counts as never seen. It is safe for concurrent use.
type Catalog struct {
	// JetStream is on a connection for large reads.
	JetStream jetstream.JetStream
	Subjects  events.Subjects
	Streams   events.Streams
	// InUse returns the keys that this instance uses, and Named the services and keys that the
	// policies in force name.
	InUse, Named func() []string
}

// InvalidError says what is wrong with a query.
type InvalidError struct{ error }

func (e InvalidError) Unwrap() error { return e.error }

// Find looks for a key or a service, and for names that begin in a certain way.
func (c *Catalog) Find(ctx context.Context, q schemas.KeyQuery) (schemas.KeyFound, error) {
	found := schemas.KeyFound{}
	if err := q.Check(); err != nil {
		return found, InvalidError{err}
	}
	known := c.names()
	if q.Name != "" {
		service, operation, _ := strings.Cut(q.Name, ":")
		seen, err := c.seen(ctx, known, service, operation)
		if found.Known = seen; err != nil || seen && q.Limit == 0 {
			return found, err
		}
	}
	if err := c.read(ctx, known); err != nil {
		return found, err
	}
	if q.Name != "" && !found.Known {
		found.Nearest = nearest(q.Name, known)
	}
	for _, name := range slices.Sorted(maps.Keys(known)) {
		if len(found.Names) < q.Limit && strings.HasPrefix(name, q.Prefix) {
			found.Names = append(found.Names, name)
		}
	}
	return found, nil
}

// names returns the services and keys that this instance knows without asking.
func (c *Catalog) names() map[string]bool {
	known := make(map[string]bool)
	for _, name := range append(c.InUse(), c.Named()...) {
		add(known, name)
	}
	return known
}

// add adds a service, or a key and its service.
func add(known map[string]bool, name string) {
	known[name] = true
	if service, _, keyed := strings.Cut(name, ":"); keyed {
		known[service] = true
	}
}

// seen reports whether a service, or a key if operation is not empty, was ever seen.
func (c *Catalog) seen(ctx context.Context, known map[string]bool, service, operation string) (bool, error) {
	name := service
	if operation != "" {
		name = events.Key(service, operation)
	} else {
		operation = "*"
	}
	if known[name] {
		return true, nil
	}
	for _, in := range []struct{ stream, subject string }{
		{c.Streams.Waiting(), c.Subjects.Slot(service, operation, "*")},
		{c.Streams.Outcomes(), c.Subjects.Outcomes("", service, operation)},
		{c.Streams.Outcomes(), c.Subjects.Events(events.RetryScheduled, service, operation)},
		{c.Streams.Dead(), c.Subjects.DeadLetters(service, operation, "")},
		{c.Streams.Intake(), c.Subjects.Submit(service, operation)},
	} {
		switch _, err := streams.LeaderGet(ctx, c.JetStream, in.stream, streams.NextBySubject(1, in.subject)); {
		case err == nil:
			return true, nil
		case !streams.IsGone(err):
			return false, fmt.Errorf("looking for %s in stream %s: %w", name, in.stream, err)
		}
	}
	return false, nil
}

// read adds the keys of which outcomes are kept.
func (c *Catalog) read(ctx context.Context, known map[string]bool) error {
	for subject, err := range streams.Subjects(ctx, c.JetStream, c.Streams.Outcomes(), c.Subjects.Outcomes("", "", "")) {
		if err != nil {
			return err
		}
		if tokens := strings.Split(subject, "."); len(tokens) == 5 && tokens[3] != events.Invalid && tokens[4] != events.Invalid {
			add(known, events.Key(tokens[3], tokens[4]))
		}
		if len(known) >= maxKeys {
			break
		}
	}
	return nil
}

// nearest returns the names that one is probably a misspelling of, the most similar first. A key is
// looked for within the service that is meant.
func nearest(name string, known map[string]bool) []string {
	service, operation, keyed := strings.Cut(name, ":")
	var services, operations []string
	for n := range known {
		if !strings.Contains(n, ":") {
			services = append(services, n)
		}
	}
	slices.Sort(services)
	if !keyed {
		return similar(service, services)
	}
	if !known[service] {
		if service = spelling.Nearest(service, services); service == "" {
			return nil
		}
	}
	if known[events.Key(service, operation)] {
		return []string{events.Key(service, operation)}
	}
	for n := range known {
		if of, ok := strings.CutPrefix(n, service+":"); ok {
			operations = append(operations, of)
		}
	}
	slices.Sort(operations)
	var keys []string
	for _, o := range similar(operation, operations) {
		keys = append(keys, events.Key(service, o))
	}
	return keys
}

// similar returns the names that one is probably a misspelling of.
func similar(name string, names []string) (all []string) {
	for len(all) < maxNearest {
		best := spelling.Nearest(name, names)
		if best == "" {
			break
		}
		all = append(all, best)
		names = slices.DeleteFunc(names, func(n string) bool { return n == best })
	}
	return all
}
