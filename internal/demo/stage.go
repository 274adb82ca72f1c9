package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/internal/embedded"
	"github.com/rebound-mq/rebound/scheduler/gate"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

// logName is the log file of the server and the service, in the store's directory.
const logName = "demo.log"

// stage is the environment of a demo: a NATS server and the service, with their own store.
type stage struct {
	dir     string
	log     *os.File
	server  *embedded.Server
	service *handlers.Service
	// Each part has its own connection, as if it were a process of its own.
	serviceConn, targetConn, ownConn *nats.Conn
	js                               jetstream.JetStream
	// outcomes and waiting name the streams of outcomes and of waiting operations.
	outcomes, waiting string
}

// openStage starts the server and the service.
func openStage(ctx context.Context, o Options) (*stage, error) {
	set, err := policy.Parse("demo.yaml", []byte(o.policies))
	if err != nil {
		return nil, fmt.Errorf("reading the policies of the demo: %w", err)
	}
	dir, err := os.MkdirTemp("", "rebound-demo-*")
	if err != nil {
		return nil, fmt.Errorf("creating a store: %w", err)
	}
	s := &stage{dir: dir, outcomes: events.Streams{}.Outcomes(), waiting: events.Streams{}.Waiting()}
	if err := s.open(ctx, set, o.Version); err != nil {
		_, err = s.close(false, err)
		return nil, err
	}
	return s, nil
}

func (s *stage) open(ctx context.Context, set *policy.Set, version string) (err error) {
	if s.log, err = os.Create(filepath.Join(s.dir, logName)); err != nil {
		return fmt.Errorf("creating the log: %w", err)
	}
	log := slog.New(slog.NewTextHandler(s.log, nil))
	s.server, err = embedded.Start(ctx, embedded.Options{StoreDir: s.dir, Port: embedded.RandomPort, Name: "rebound-demo", Logger: log})
	if err != nil {
		return err
	}
	for name, conn := range map[string]**nats.Conn{"rebound": &s.serviceConn, "demo target": &s.targetConn, "demo": &s.ownConn} {
		onError := func(_ *nats.Conn, _ *nats.Subscription, err error) {
			log.Warn("an error on a connection", "connection", name, "error", err)
		}
		if *conn, err = nats.Connect(s.server.ClientURL(), nats.Name(name), nats.Timeout(10*time.Second), nats.MaxReconnects(-1), nats.ErrorHandler(onError)); err != nil {
			return fmt.Errorf("connecting to the server of the demo: %w", err)
		}
	}
	if s.js, err = jetstream.New(s.ownConn); err != nil {
		return fmt.Errorf("opening JetStream: %w", err)
	}
	s.service, err = handlers.Start(ctx, s.serviceConn, handlers.Config{
		Policies: set, Version: version, Logger: log,
		// The load of this machine must not slow the demo down.
		Backpressure: gate.Limits{StoreDelay: time.Hour},
	})
	return err
}

// drain stops the service once it has finished what it has in hand.
func (s *stage) drain(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()
	if err := s.service.Stop(ctx); err != nil {
		return fmt.Errorf("stopping the service: %w", err)
	}
	s.service = nil
	return nil
}

// close stops everything and removes the store unless keep is true; kept is then its directory.
// The error includes the earlier one.
func (s *stage) close(keep bool, earlier error) (kept string, err error) {
	errs := []error{earlier}
	if s.service != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		errs = append(errs, s.service.Stop(ctx))
	}
	for _, nc := range []*nats.Conn{s.serviceConn, s.targetConn, s.ownConn} {
		if nc != nil {
			nc.Close()
		}
	}
	if s.server != nil {
		s.server.Shutdown()
	}
	if s.log != nil {
		errs = append(errs, s.log.Close())
	}
	if keep {
		return s.dir, errors.Join(errs...)
	}
	errs = append(errs, os.RemoveAll(s.dir))
	return "", errors.Join(errs...)
}
