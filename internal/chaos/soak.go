//go:build linux

package chaos

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/internal/backoff"
	"github.com/rebound-mq/rebound/internal/chaos/proof"
)

const (
	sampleEvery = 5 * time.Second
	// floodFor is how long the peak is measured, including floodWarm to warm up, with at most
	// floodPending unfinished operations; at the peak about half of them wait for their delay,
	// and more would only queue. A node is killed every floodFault.
	floodFor     = time.Minute
	floodWarm    = 5 * time.Second
	floodPending = 300
	floodFault   = 20 * time.Second
	// soakShare is the share of the peak at which a soak runs.
	soakShare = 0.8
)

// sampler samples the instances periodically.
type sampler struct {
	h       *history
	samples []proof.Series // three for each instance; used by the sampler's goroutine alone
	done    sync.WaitGroup
}

// start samples until ctx ends.
func (s *sampler) start(ctx context.Context) {
	for _, in := range s.h.instances {
		s.samples = append(s.samples,
			proof.Series{Name: in.Name + " resident (MiB)", Floor: 32},
			proof.Series{Name: in.Name + " goroutines", Floor: 40},
			proof.Series{Name: in.Name + " files", Floor: 20})
	}
	s.done.Go(func() {
		for backoff.Sleep(ctx, sampleEvery) {
			for i, in := range s.h.instances {
				now := time.Now()
				for j, value := range []float64{float64(in.Resident()) / (1 << 20), float64(in.goroutines(ctx)), float64(in.Files())} {
					if value > 0 { // otherwise it is not running, or frozen
						series := &s.samples[3*i+j]
						series.Points = append(series.Points, proof.Point{At: now, Value: value})
					}
				}
			}
		}
	})
}

// flood measures how many operations a second end while floodPending are unfinished and nodes are
// killed, and sets the rate of the rest to a share of that. A peak without faults would leave
// nothing for coping with them. It returns false if the operations have not drained.
func (h *history) flood(ctx context.Context, js jetstream.JetStream) (bool, error) {
	began := time.Now()
	pending := make(chan struct{}, floodPending)
	var ended atomic.Int64
	h.target.watch(func(*submission) {
		if d := time.Since(began); d > floodWarm && d < floodFor {
			ended.Add(1)
		}
		select {
		case <-pending:
		default:
		}
	})
	defer h.target.watch(nil)
	flooding, end := context.WithTimeout(ctx, floodFor)
	defer end()
	var killing sync.WaitGroup
	killing.Go(func() {
		for backoff.Sleep(flooding, floodFault) {
			faults["node-kill"](h.ctx, h.operator)
		}
	})
	for flooding.Err() == nil {
		select {
		case pending <- struct{}{}:
			s := h.next()
			h.producing.Go(func() { h.submit(js, s) })
		case <-flooding.Done():
		}
	}
	h.producing.Wait()
	killing.Wait()
	peak := float64(ended.Load()) / (floodFor - floodWarm).Seconds()
	h.config.Rate = max(int(peak*soakShare), 1)
	h.note("the peak is %.0f operations a second; from here on %d", peak, h.config.Rate)
	err := h.drain(ctx, js)
	return h.record.Drained, err
}
