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

// StreamLeader is the server that leads a stream, by whose time an instance goes: it also
// fires the stream's schedules. Each question to it measures the [Clock]. It is safe for
// concurrent use.
type StreamLeader struct {
	js     jetstream.JetStream
	stream string
	clock  *Clock
	log    *slog.Logger
	// heard takes the answer to a question that was asked at a moment of this host.
	heard func(asked time.Time, info *jetstream.StreamInfo)

	name   atomic.Value // a string
	skewed atomic.Bool  // the log says that the host's clock differs
}

// NewStreamLeader returns the leader of a stream as the clock's server. It calls heard
// with every answer and the moment of this host at which it was asked for.
func NewStreamLeader(js jetstream.JetStream, stream string, clock *Clock, heard func(asked time.Time, info *jetstream.StreamInfo), log *slog.Logger) *StreamLeader {
	return &StreamLeader{js: js, stream: stream, clock: clock, log: log, heard: heard}
}

// Ask asks the leader for the stream's information, which bears its time.
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

// Measure measures the clock before anything goes by it.
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

// logSkew logs when the host's clock comes to differ, and when it does no more.
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
