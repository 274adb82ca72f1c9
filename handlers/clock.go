package handlers

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/internal/streams"
)

const (
	// firstMeasures is how often the server's time is asked for before an instance
	// serves.
	firstMeasures = 5
	// skewTold is by how much the host's clock may differ from the server's before
	// that is worth telling.
	skewTold = 100 * time.Millisecond
)

// created returns when a stream was made. What the leader of the waiting operations
// answers bears its time, by which it fires schedules and by which the instance goes.
func (s *Service) created(ctx context.Context, name string) (time.Time, error) {
	asked, moment := s.clock.Host(), time.Now()
	stream, err := s.js.Stream(ctx, name)
	if err != nil {
		return time.Time{}, err
	}
	info := stream.CachedInfo()
	if name == s.streams.Waiting() && !info.TimeStamp.IsZero() {
		s.clock.Saw(asked, info.TimeStamp, s.clock.Host())
		s.tellSkew()
		if info.Cluster != nil {
			s.leader.Store(info.Cluster.Leader)
		}
		s.elections.Heard(moment, info)
	}
	return info.Created, nil
}

// askLeader asks the leader of what waits.
func (s *Service) askLeader(ctx context.Context) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, streams.CallTimeout)
	defer cancel()
	stream, err := s.reading.Stream(ctx, s.streams.Waiting())
	if err != nil {
		return nil, fmt.Errorf("asking the leader of stream %s: %w", s.streams.Waiting(), err)
	}
	return stream.CachedInfo(), nil
}

// measure learns the server's time before anything goes by it.
func (s *Service) measure(ctx context.Context) error {
	for range firstMeasures {
		if _, err := s.created(ctx, s.streams.Waiting()); err != nil {
			return fmt.Errorf("asking stream %s for its time: %w", s.streams.Waiting(), err)
		}
	}
	return nil
}

// tellSkew logs when the host's clock comes to differ, and when it does no more.
func (s *Service) tellSkew() {
	problem := s.skewProblem()
	if wrong := problem != ""; s.skewed.Swap(wrong) != wrong {
		if wrong {
			s.log.Warn("the clock of this host differs; the instance goes by the server's", "problem", problem)
		} else {
			s.log.Info("the clock of this host agrees with the server's")
		}
	}
}

// skewProblem says by how much the host's clock differs, empty when it does not by
// much.
func (s *Service) skewProblem() string {
	skew := s.clock.Skew()
	if skew.Abs() > 10*time.Second {
		skew = skew.Round(time.Second)
	}
	skew = skew.Round(time.Millisecond)
	switch {
	case skew > skewTold:
		return fmt.Sprintf("the clock of the host is %s ahead of the NATS server's", skew)
	case skew < -skewTold:
		return fmt.Sprintf("the clock of the host is %s behind the NATS server's", -skew)
	}
	return ""
}
