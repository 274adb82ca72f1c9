package embedded

import (
	"context"
	"errors"
	"fmt"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/shirou/gopsutil/v4/disk"
)

const (
	// reviveEvery is how often the server is checked.
	reviveEvery = time.Second
	// reviveSpace is how much of the disk must be free before JetStream is started again.
	reviveSpace = 16 << 20
	// reviveRest is how long JetStream must have been on before it is started again, in case it
	// fails for another reason than a full disk.
	reviveRest = 10 * time.Second
	// reviveLogEvery is how often the log repeats that JetStream is off.
	reviveLogEvery = time.Minute
)

// revive starts JetStream again after a store failed to write, as on a full disk. The server lets
// that store refuse everything from then on, or switches JetStream off, and never recovers by
// itself. revive runs until ctx ends.
func (s *Server) revive(ctx context.Context) {
	ticker := time.NewTicker(reviveEvery)
	defer ticker.Stop()
	var off, logged, tried time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.done:
			return
		case <-ticker.C:
		}
		if off.IsZero() && s.server.JetStreamEnabled() && !s.log.broken.Load() {
			continue
		}
		now := time.Now()
		if off.IsZero() {
			off = now
			// With JetStream off, requests are refused at once instead of going unanswered.
			if err := s.server.ShutdownJetStream(); err != nil {
				s.logger.Warn("stopping JetStream", "error", err)
			}
		}
		err := s.restart(ctx, tried)
		if err == nil {
			s.logger.Info("the embedded NATS server has JetStream on again", "after", now.Sub(off).Round(time.Second))
			off, logged, tried = time.Time{}, time.Time{}, now
			s.trouble.Store("")
			continue
		}
		s.trouble.Store("the embedded NATS server cannot store: " + err.Error())
		if now.Sub(logged) >= reviveLogEvery {
			logged = now
			s.logger.Error("a store of the embedded NATS server cannot write, so JetStream is off and nothing is accepted; it will be started again when there is space",
				"store", s.config.StoreDir, "error", err)
		}
	}
}

// Trouble returns why the server stores nothing, empty if it does store.
func (s *Server) Trouble() string {
	trouble, _ := s.trouble.Load().(string)
	return trouble
}

// restart starts JetStream again if there is space and the last restart is long enough ago. The
// error says why it did not.
func (s *Server) restart(ctx context.Context, last time.Time) error {
	usage, err := disk.UsageWithContext(ctx, s.config.StoreDir)
	switch {
	case err != nil:
		return fmt.Errorf("reading how much is free on the disk: %w", err)
	case usage.Free < reviveSpace:
		return fmt.Errorf("the disk is full: %d bytes are free, and %d are needed", usage.Free, int64(reviveSpace))
	case time.Since(last) < reviveRest:
		return fmt.Errorf("JetStream was started again %s ago but failed to write again", time.Since(last).Round(time.Second))
	case s.server.JetStreamConfig() != nil:
		return errors.New("JetStream is still being stopped")
	}
	s.log.broken.Store(false)
	config := s.config
	if err := s.server.EnableJetStream(&config); err != nil {
		return fmt.Errorf("starting JetStream: %w", err)
	}
	return nil
}

// jetStreamConfig returns the configuration with which JetStream was started, for starting it
// again.
func jetStreamConfig(server *natsd.Server, o Options) natsd.JetStreamConfig {
	var config natsd.JetStreamConfig
	if running := server.JetStreamConfig(); running != nil {
		config = *running
	}
	// The server appends its own directory.
	config.StoreDir = o.StoreDir
	return config
}
