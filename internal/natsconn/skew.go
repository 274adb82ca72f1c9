package natsconn

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Skew is how far the server's clock is from ours.
type Skew struct {
	// Offset is the server's time minus ours; it is positive when the server's
	// clock is ahead.
	Offset time.Duration
	// Uncertainty is half the round trip of the measurement: the offset is accurate to
	// within that much either way.
	Uncertainty time.Duration
}

// skewSamples is how often the clock is asked; the fastest answer counts.
const skewSamples = 5

// ClockSkew measures the clock of the server that nc is connected to. It asks
// $SYS.REQ.USER.INFO, which every account may ask and whose answer has the server's time.
// It assumes that the server answered half way between request and receipt.
func ClockSkew(ctx context.Context, nc *nats.Conn) (Skew, error) {
	return fastest(func() (time.Time, error) {
		ctx, cancel := context.WithTimeout(ctx, checkTimeout)
		defer cancel()
		msg, err := nc.RequestWithContext(ctx, "$SYS.REQ.USER.INFO", nil)
		if err != nil {
			return time.Time{}, err
		}
		var answer struct {
			Server struct {
				Time time.Time `json:"time"`
			} `json:"server"`
		}
		if err := json.Unmarshal(msg.Data, &answer); err != nil {
			return time.Time{}, err
		}
		return answer.Server.Time, nil
	})
}

// LeaderClockSkew measures the clock of the server that leads a stream and fires its
// schedules, by the time stamp of the stream's information.
func LeaderClockSkew(ctx context.Context, js jetstream.JetStream, stream string) (Skew, error) {
	return fastest(func() (time.Time, error) {
		ctx, cancel := context.WithTimeout(ctx, checkTimeout)
		defer cancel()
		s, err := js.Stream(ctx, stream)
		if err != nil {
			return time.Time{}, err
		}
		return s.CachedInfo().TimeStamp, nil
	})
}

func fastest(ask func() (time.Time, error)) (Skew, error) {
	var best Skew
	for i := range skewSamples {
		before := time.Now()
		server, err := ask()
		trip := time.Since(before)
		if err != nil {
			return Skew{}, fmt.Errorf("measuring the server's clock: %w", err)
		}
		if server.IsZero() {
			return Skew{}, fmt.Errorf("measuring the server's clock: the answer bears no time")
		}
		if half := trip / 2; i == 0 || half < best.Uncertainty {
			// Round strips our monotonic reading, so that wall clocks are compared.
			best = Skew{Offset: server.Sub(before.Round(0).Add(half)), Uncertainty: half}
		}
	}
	return best, nil
}
