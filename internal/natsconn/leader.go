package natsconn

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// firstMeasures is how often [StreamLeader.Measure] asks for the time.
const firstMeasures = 5

// StreamLeader is the server that leads a stream. It fires the stream's schedules, so
// instances use its time. Each request to it measures the [Clock]. It is safe for concurrent
// use.
type StreamLeader struct {
	js     jetstream.JetStream
	stream string
	clock  *Clock
	log    *slog.Logger
	// heard is called with every answer and the host's time of the request.
	heard func(asked time.Time, info *jetstream.StreamInfo)

	name   atomic.Value // a string
	skewed atomic.Bool  // it was logged that the host's clock differs
}

// NewStreamLeader returns the leader of a stream, which measures clock. It calls heard with
// every answer and the host's time of the request.
func NewStreamLeader(js jetstream.JetStream, stream string, clock *Clock, heard func(asked time.Time, info *jetstream.StreamInfo), log *slog.Logger) *StreamLeader {
	return &StreamLeader{js: js, stream: stream, clock: clock, log: log, heard: heard}
}

// Ask asks the leader for the stream's information, which includes its time.
func (l *StreamLeader) Ask(ctx context.Context) (*jetstream.StreamInfo, error) {
	asked, moment := l.clock.Host(), time.Now()
	stream, err := l.js.Stream(ctx, l.stream)
	if err != nil {
		return nil, err
	}
	info := stream.CachedInfo()
	if info.TimeStamp.IsZero() {
		return info, nil
	}
	l.clock.Saw(asked, info.TimeStamp, l.clock.Host())
	l.logSkew()
	if info.Cluster != nil {
		l.name.Store(info.Cluster.Leader)
	}
	l.heard(moment, info)
	return info, nil
}

// Measure measures the clock before it is used.
func (l *StreamLeader) Measure(ctx context.Context) error {
	for range firstMeasures {
		if _, err := l.Ask(ctx); err != nil {
			return fmt.Errorf("asking stream %s for its time: %w", l.stream, err)
		}
	}
	return nil
}

// Name returns the name of the server that answered last, empty without a cluster.
func (l *StreamLeader) Name() string {
	name, _ := l.name.Load().(string)
	return name
}

// logSkew logs when the host's clock begins or ceases to differ.
func (l *StreamLeader) logSkew() {
	problem := l.clock.Problem()
	if wrong := problem != ""; l.skewed.Swap(wrong) != wrong {
		if wrong {
			l.log.Warn("the clock of this host differs; the instance goes by the server's", "problem", problem)
		} else {
			l.log.Info("the clock of this host agrees with the server's")
		}
	}
}
