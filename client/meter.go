package client

import (
	"sync"
	"time"

	"github.com/rebound-mq/rebound/health"
)

// meter collects the ends of the attempts at a service until somebody asks for its health.
// The registry computes figures with every sample, which is too slow for an attempt that
// succeeds at once. It keeps the latest [health.Samples] only, and so does the meter.
type meter struct {
	service string
	client  *Client

	mu      sync.Mutex // guards what follows; locked for nanoseconds, except in drain
	samples [health.Samples]sample
	next    int // where the next sample goes
	count   int
}

// sample is how one attempt ended.
type sample struct {
	at, response time.Duration // by the client's clock; the response as health has it
	result       health.Result
}

// add takes a sample, the oldest of which may be forgotten.
func (m *meter) add(s sample) {
	m.mu.Lock()
	m.samples[m.next] = s
	m.next++
	if m.next == len(m.samples) {
		m.next = 0
	}
	if m.count < len(m.samples) {
		m.count++
	}
	m.mu.Unlock()
}

// drain moves the samples to the registry; now is the time of the wall clock.
func (m *meter) drain(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	clock := m.client.clock()
	for ; m.count > 0; m.count-- {
		s := &m.samples[(m.next-m.count+len(m.samples))%len(m.samples)]
		m.client.health.End(m.service, s.result, s.response, now.Add(s.at-clock))
	}
}
