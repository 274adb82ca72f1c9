package natsconn

import (
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/internal/backoff"
	"github.com/rebound-mq/rebound/scheduler/gate"
)

const (
	// echoEvery is how often an [Echo] measures.
	echoEvery = 50 * time.Millisecond
	// echoTimeout bounds one measurement.
	echoTimeout = 2 * time.Second
)

// Echo measures how long a NATS server takes to answer a ping. That is what an attempt takes
// at a target that needs no time: it grows when this process is not given a processor, when
// its connection is busy, and when the server is. It is safe for concurrent use.
type Echo struct {
	nc     *nats.Conn
	active func() bool

	mu     sync.Mutex // guards the fields below
	delays gate.Delays
	asked  time.Time // when the ping was sent that is on its way; zero for none
}

// NewEcho returns an echo on a connection. It measures while active returns true.
func NewEcho(nc *nats.Conn, active func() bool) *Echo { return &Echo{nc: nc, active: active} }

// Run measures until ctx ends.
func (e *Echo) Run(ctx context.Context) {
	for ctx.Err() == nil {
		if e.active() && e.nc.IsConnected() {
			e.measure(ctx)
		}
		backoff.Sleep(ctx, echoEvery)
	}
}

func (e *Echo) measure(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, echoTimeout)
	defer cancel()
	asked := time.Now()
	e.set(asked)
	err := e.nc.FlushWithContext(ctx)
	took := time.Since(asked)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.asked = time.Time{}
	if err == nil || ctx.Err() != nil {
		e.delays.Add(took)
	}
}

func (e *Echo) set(asked time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.asked = asked
}

// Own returns how much of a response time may be the delay of this instance and of the
// server; see [gate.Delays.Own].
func (e *Echo) Own() time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	own := e.delays.Own()
	if !e.asked.IsZero() {
		own = max(own, time.Since(e.asked))
	}
	return own
}
