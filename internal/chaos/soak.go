//go:build linux

package chaos

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	sampleEvery = 5 * time.Second
	// floodFor is how long the peak is measured for, with at most floodPending
	// submissions that are not acknowledged.
	floodFor     = 20 * time.Second
	floodPending = 128
	// soakShare is the share of the peak at which a soak runs.
	soakShare = 0.8
)

// sampler measures the instances again and again.
type sampler struct {
	h       *history
	samples []Series // four by four for each instance; the sampler's goroutine alone
	done    sync.WaitGroup
}

// start samples until ctx ends.
func (s *sampler) start(ctx context.Context) {
	for _, in := range s.h.instances {
		s.samples = append(s.samples,
			Series{Name: in.name + " resident (MiB)", Floor: 32},
			Series{Name: in.name + " goroutines", Floor: 40},
			Series{Name: in.name + " files", Floor: 20})
	}
	s.done.Go(func() {
		for pause(ctx, sampleEvery) {
			for i, in := range s.h.instances {
				now := time.Now()
				for j, value := range []float64{float64(in.resident()) / (1 << 20), float64(in.goroutines(ctx)), float64(in.files())} {
					if value > 0 { // it is not running, or stands still
						series := &s.samples[3*i+j]
						series.Points = append(series.Points, Point{now, value})
					}
				}
			}
		}
	})
}

// flood measures how many operations a second go through all of it, and sets the rate
// of what follows to a share of that.
func (h *history) flood(ctx context.Context, js jetstream.JetStream) error {
	began := time.Now()
	room := make(chan struct{}, floodPending)
	for time.Since(began) < floodFor {
		select {
		case room <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		s := h.next()
		h.producing.Go(func() {
			defer func() { <-room }()
			h.submit(js, s)
		})
	}
	h.producing.Wait()
	n := len(h.submissions)
	if err := h.drain(ctx, js); err != nil {
		return err
	}
	if !h.record.Drained {
		return fmt.Errorf("the %d operations of the peak have not drained within %s", n, h.record.Bound)
	}
	peak := float64(n) / time.Since(began).Seconds()
	h.config.Rate = max(int(peak*soakShare), 1)
	h.note("the peak is %.0f operations a second over %s; from here on %d", peak, time.Since(began).Round(time.Second), h.config.Rate)
	return nil
}
