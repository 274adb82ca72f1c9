package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/internal/config"
	"github.com/rebound-mq/rebound/internal/natsconn"
)

const (
	connectTimeout = 10 * time.Second
	// answerTimeout is how long an answer of the service is waited for.
	answerTimeout = 10 * time.Second
)

// session is a command's connection.
type session struct {
	config   *config.Config
	nc       *natsconn.Conn
	js       jetstream.JetStream
	subjects events.Subjects
	streams  events.Streams
}

// configure finds the settings in force. Flags that are wrong are wrong usage.
func (a *app) configure(cmd *cobra.Command) (*config.Config, error) {
	c, err := config.Load(cmd.Flags(), a.environ, "")
	if err != nil {
		return nil, usageOf(err)
	}
	for _, w := range c.Warnings {
		if c.LogFormat == "json" {
			a.logger(c).Warn(w)
		} else {
			a.say("rebound: warning: %s", w)
		}
	}
	return c, nil
}

// usageOf makes faults that are all in flags an error of usage.
func usageOf(err error) error {
	var faults *config.Error
	if !errors.As(err, &faults) {
		return err
	}
	for _, f := range faults.Faults {
		if !strings.HasPrefix(f.Source, "--") {
			return err
		}
	}
	return usageError{err}
}

// logger returns the log, which goes to standard error.
func (a *app) logger(c *config.Config) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.LogLevel}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(a.stderr, options))
	}
	return slog.New(slog.NewTextHandler(a.stderr, options))
}

// connected runs do with a connection made as the settings say.
func (a *app) connected(cmd *cobra.Command, do func(*session) error) error {
	c, err := a.configure(cmd)
	if err != nil {
		return err
	}
	s, err := connect(cmd.Context(), c, cmd.CommandPath(), a.logger(c))
	if err != nil {
		return err
	}
	defer s.nc.Close()
	return do(s)
}

// connect makes the connection of a session.
func connect(ctx context.Context, c *config.Config, name string, log *slog.Logger, options ...nats.Option) (*session, error) {
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
	return &session{
		config: c, nc: nc, js: js,
		subjects: events.Subjects{Prefix: c.Prefix}, streams: events.Streams{Prefix: c.Prefix},
	}, nil
}

// url returns where the session is connected, without credentials.
func (s *session) url() string { return s.nc.ConnectedUrlRedacted() }

// missing says that a stream of ours does not exist.
func (s *session) missing(stream string) error {
	return fmt.Errorf("there is no stream %s at %s; `rebound serve` makes it", stream, s.url())
}

// explain says more about an error of a publish.
func (s *session) explain(err error) error {
	if errors.Is(err, jetstream.ErrNoStreamResponse) {
		return s.missing(s.streams.Intake())
	}
	return err
}

// answerError is an error that the service answered with.
type answerError struct{ code, text string }

func (e *answerError) Error() string { return e.text }

// ask sends an empty request to the service and decodes the answer.
func (s *session) ask(ctx context.Context, subject string, into any) error {
	return s.request(ctx, nats.NewMsg(subject), into)
}

// request sends a request to the service and decodes the answer. An error that
// the service answers with is an [*answerError].
func (s *session) request(ctx context.Context, m *nats.Msg, into any) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	answer, err := s.nc.RequestMsgWithContext(ctx, m)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no answer within %s: %w", answerTimeout, err)
	case err != nil:
		return err
	}
	if code, text := wire.MicroError(answer.Header); code != "" {
		return &answerError{code: code, text: text}
	}
	if err := json.Unmarshal(answer.Data, into); err != nil {
		return fmt.Errorf("decoding the answer of the service: %w", err)
	}
	return nil
}
