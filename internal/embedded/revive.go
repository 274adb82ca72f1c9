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
	// reviveRoom is how much must be free on the disk for JetStream to be started
	// again.
	reviveRoom = 16 << 20
	// reviveRest is how long JetStream must have been on before it is started again,
	// should it fail for another reason than room.
	reviveRest = 10 * time.Second
	// reviveTell is how often the log tells that JetStream is off.
	reviveTell = time.Minute
)

// revive starts JetStream again after a store failed to write, as on a full disk. The
// server has that store refuse everything from then on, or switches JetStream off, and
// leaves it so for good. It runs until ctx ends.
func (s *Server) revive(ctx context.Context) {
	ticker := time.NewTicker(reviveEvery)
	defer ticker.Stop()
	var off, told, tried time.Time
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
			// Whoever asks is refused at once, and does not wait for an answer in vain.
			if err := s.server.ShutdownJetStream(); err != nil {
				s.logger.Warn("stopping JetStream", "error", err)
			}
		}
		err := s.restart(ctx, tried)
		if err == nil {
			s.logger.Info("the embedded NATS server has JetStream on again", "after", now.Sub(off).Round(time.Second))
			off, told, tried = time.Time{}, time.Time{}, now
			s.trouble.Store("")
			continue
		}
		s.trouble.Store("the embedded NATS server cannot store: " + err.Error())
		if now.Sub(told) >= reviveTell {
			told = now
			s.logger.Error("a store of the embedded NATS server cannot write, so JetStream is off and nothing is accepted; it is started again when there is room",
				"store", s.config.StoreDir, "error", err)
		}
	}
}

// Trouble says why the server stores nothing, empty when it does.
func (s *Server) Trouble() string {
	trouble, _ := s.trouble.Load().(string)
	return trouble
}

// restart starts JetStream again if there is room, and not much sooner than the last
// time. The error says why it is not.
func (s *Server) restart(ctx context.Context, last time.Time) error {
	usage, err := disk.UsageWithContext(ctx, s.config.StoreDir)
	switch {
	case err != nil:
		return fmt.Errorf("reading how much is free on the disk: %w", err)
	case usage.Free < reviveRoom:
		return fmt.Errorf("the disk is full: %d bytes are free, and %d are needed", usage.Free, int64(reviveRoom))
	case time.Since(last) < reviveRest:
		return fmt.Errorf("JetStream was started again %s ago and failed to write again", time.Since(last).Round(time.Second))
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

// jetStreamConfig returns how JetStream was started, to be started so again.
func jetStreamConfig(server *natsd.Server, o Options) natsd.JetStreamConfig {
	var config natsd.JetStreamConfig
	if running := server.JetStreamConfig(); running != nil {
		config = *running
	}
	// The server appends its own directory.
	config.StoreDir = o.StoreDir
	return config
}
