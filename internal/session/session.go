// Package session connects a command to NATS and to the service: a [Session] sends requests to
// the service and explains when none answers.
package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/config"
	"github.com/rebound-mq/rebound/internal/natsconn"
	"github.com/rebound-mq/rebound/internal/streams"
)

const connectTimeout = 10 * time.Second

// Session is a connection made according to the settings.
type Session struct {
	Config   *config.Config
	NC       *natsconn.Conn
	JS       jetstream.JetStream
	Subjects events.Subjects
	Streams  events.Streams
}

// Connect opens a session.
func Connect(ctx context.Context, c *config.Config, name string, log *slog.Logger, options ...nats.Option) (*Session, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	nc, err := natsconn.Connect(ctx, c, name, log, options...)
	if err != nil {
		return nil, err
	}
	js, err := nc.JetStream()
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("opening JetStream: %w", err)
	}
	return &Session{
		Config: c, NC: nc, JS: js,
		Subjects: events.Subjects{Prefix: c.Prefix}, Streams: events.Streams{Prefix: c.Prefix},
	}, nil
}

// URL returns the server's URL, without credentials.
func (s *Session) URL() string { return s.NC.ConnectedUrlRedacted() }

// NoStream returns the error that one of Rebound's streams does not exist.
func (s *Session) NoStream(stream string) error {
	return fmt.Errorf("there is no stream %s at %s; `rebound serve` creates it", stream, s.URL())
}

// Explain adds the cause to an error of a publish.
func (s *Session) Explain(err error) error {
	if errors.Is(err, jetstream.ErrNoStreamResponse) {
		return s.NoStream(s.Streams.Intake())
	}
	return err
}

// Close closes the connection.
func (s *Session) Close() { s.NC.Close() }

// NoService returns the error that no service answers, with advice.
func (s *Session) NoService(advice string) error {
	return fmt.Errorf("%s at %s; %s", NoService, s.URL(), advice)
}

// Texts for when no service answers.
const (
	NoService    = "no service answers"
	StartService = "`rebound serve` starts one"
)

// ClusterReplicas is the default number of replicas in a cluster.
const ClusterReplicas = 3

// Limits returns the limits of the streams on this server.
func (s *Session) Limits() streams.Limits {
	c := s.Config
	replicas := c.Replicas
	if replicas == 0 {
		replicas = 1
		if s.Clustered() {
			replicas = ClusterReplicas
		}
	}
	return streams.Limits{
		Replicas: replicas, OutcomesMaxAge: c.OutcomesMaxAge, OutcomesMaxBytes: c.OutcomesMaxBytes, DeadMaxAge: c.DeadMaxAge, MaxSubmitted: int64(c.MaxSubmitted),
	}
}

// Clustered reports whether the server belongs to a cluster.
func (s *Session) Clustered() bool { return s.NC.ConnectedClusterName() != "" }
