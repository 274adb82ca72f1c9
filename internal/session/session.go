// Package session is one connection to NATS and what commands do with it: a
// [Session] asks the service, or knows that none answers.
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

// Session is a connection, made as the settings say.
type Session struct {
	Config   *config.Config
	NC       *natsconn.Conn
	JS       jetstream.JetStream
	Subjects events.Subjects
	Streams  events.Streams
}

// Connect makes the connection of a session.
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

// URL returns where the session is connected, without credentials.
func (s *Session) URL() string { return s.NC.ConnectedUrlRedacted() }

// NoStream says that a stream of ours does not exist.
func (s *Session) NoStream(stream string) error {
	return fmt.Errorf("there is no stream %s at %s; `rebound serve` makes it", stream, s.URL())
}

// Explain says more about an error of a publish.
func (s *Session) Explain(err error) error {
	if errors.Is(err, jetstream.ErrNoStreamResponse) {
		return s.NoStream(s.Streams.Intake())
	}
	return err
}

// Close ends the connection.
func (s *Session) Close() { s.NC.Close() }

// NoService says that no service answers, and what one can do then.
func (s *Session) NoService(advice string) error {
	return fmt.Errorf("%s at %s; %s", NoService, s.URL(), advice)
}

// What is said when no service answers.
const (
	NoService    = "no service answers"
	StartService = "`rebound serve` starts one"
)

// ClusterReplicas is how many servers of a cluster store each stream when nothing
// else is said.
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

// Clustered reports whether the server is one of a cluster.
func (s *Session) Clustered() bool { return s.NC.ConnectedClusterName() != "" }
