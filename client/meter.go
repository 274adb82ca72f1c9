package client

import (
	"sync"
	"time"

	"github.com/rebound-mq/rebound/health"
)

// meter collects how the attempts at a service ended until its health is asked for. The registry
// computes figures with every sample, which is too slow for an attempt that succeeds at once.
// Like the registry, the meter keeps only the latest [health.Samples].
type meter struct {
	service string
	client  *Client

	mu      sync.Mutex // guards the fields below; held for nanoseconds, except in drain
	samples [health.Samples]sample
	next    int // index of the next sample
	count   int
}

// sample is how one attempt ended.
type sample struct {
	at, response time.Duration // on the client's clock; the response time as defined by health
	result       health.Result
}

// add adds a sample, which may replace the oldest one.
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

// drain moves the samples to the registry; now is the wall-clock time.
func (m *meter) drain(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	clock := m.client.clock()
	for ; m.count > 0; m.count-- {
		s := &m.samples[(m.next-m.count+len(m.samples))%len(m.samples)]
		m.client.health.End(m.service, s.result, s.response, now.Add(s.at-clock))
	}
}
