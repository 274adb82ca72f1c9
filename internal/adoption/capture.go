package adoption

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/streams"
)

// CapturedError says that somebody else's stream stores the advisories of a consumer.
// The server lets no second stream listen on the same subject.
type CapturedError struct{ Stream, Subject string }

// Error implements error.
func (e *CapturedError) Error() string {
	return fmt.Sprintf("stream %s stores %s already, and the server lets only one stream listen on a subject; narrow that stream's subjects", e.Stream, e.Subject)
}

// Capture is the stream that stores JetStream's advisories about messages that adopted
// consumers gave up. It is a work queue of all instances.
type Capture struct {
	js     jetstream.JetStream
	config jetstream.StreamConfig
}

// NewCapture returns the capture under a subject prefix, empty for
// [events.DefaultPrefix]. The first call of [Capture.Listen] makes the stream.
func NewCapture(js jetstream.JetStream, prefix string, replicas int) *Capture {
	return &Capture{js: js, config: jetstream.StreamConfig{
		Name: events.Streams{Prefix: prefix}.Advisories(), Description: "Rebound: messages that adopted consumers gave up",
		Subjects:  []string{events.Subjects{Prefix: prefix}.Advisories()},
		Retention: jetstream.WorkQueuePolicy, Discard: jetstream.DiscardNew, Storage: jetstream.FileStorage,
		Replicas: max(replicas, 1), Duplicates: events.DedupWindow, AllowDirect: true,
	}}
}

// Stream returns the name of the stream.
func (c *Capture) Stream() string { return c.config.Name }

// Listen makes the stream listen on the advisories of exactly these consumers. Without
// any it makes no stream. Stored advisories stay. The error is a [*CapturedError] if
// another stream is in the way, and a [*streams.IncompatibleError] if the stream exists
// and cannot serve.
//
// The server has no compare-and-set for a stream's configuration: if several instances
// call Listen at once, the last one decides. So each calls it after every change, in the
// end with the same list.
func (c *Capture) Listen(ctx context.Context, adopted []Adoption) error {
	wanted := append(slices.Clone(c.config.Subjects), Advisories(adopted)...)
	have, err := c.subjects(ctx)
	switch {
	case err != nil:
		return err
	case have == nil && len(adopted) == 0:
		return nil
	}
	all := slices.Clone(wanted)
	for _, subject := range have {
		if !slices.Contains(all, subject) {
			all = append(all, subject)
		}
	}
	config := c.config
	config.Subjects = all
	if err := streams.Ensure(ctx, c.js, []jetstream.StreamConfig{config}); err != nil {
		if captured := c.Captured(ctx, adopted); captured != nil {
			return captured
		}
		return err
	}
	if len(all) == len(wanted) {
		return nil
	}
	stream, err := c.js.Stream(ctx, config.Name)
	if err != nil {
		return fmt.Errorf("reading stream %s: %w", config.Name, err)
	}
	config = stream.CachedInfo().Config
	config.Subjects = wanted
	if _, err := c.js.UpdateStream(ctx, config); err != nil {
		return fmt.Errorf("updating stream %s: %w", config.Name, err)
	}
	return nil
}

// subjects returns the subjects that the stream listens on, nil if there is no stream.
func (c *Capture) subjects(ctx context.Context) ([]string, error) {
	stream, err := c.js.Stream(ctx, c.config.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading stream %s: %w", c.config.Name, err)
	}
	return stream.CachedInfo().Config.Subjects, nil
}

// Missing lists the subjects of the consumers' advisories that the stream does not
// listen on.
func (c *Capture) Missing(ctx context.Context, adopted []Adoption) ([]string, error) {
	have, err := c.subjects(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(Advisories(adopted), func(s string) bool { return slices.Contains(have, s) }), nil
}

// Captured returns a [*CapturedError] if a stream that is not ours stores advisories of
// the consumers.
func (c *Capture) Captured(ctx context.Context, adopted []Adoption) error {
	for _, subject := range Advisories(adopted) {
		name, err := c.js.StreamNameBySubject(ctx, subject)
		switch {
		case errors.Is(err, jetstream.ErrStreamNotFound), err == nil && name == c.config.Name:
		case err != nil:
			return fmt.Errorf("looking for a stream on %s: %w", subject, err)
		default:
			return &CapturedError{Stream: name, Subject: subject}
		}
	}
	return nil
}
