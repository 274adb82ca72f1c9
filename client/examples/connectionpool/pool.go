package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/client"
	"github.com/rebound-mq/rebound/events"
)

// The key of all acquisitions.
const (
	service   = "connection_pool"
	operation = "acquire_connection"
)

// reportEvery is well within the minute for which a report counts in full.
const reportEvery = 15 * time.Second

// Pool is a bounded pool of connections. It is safe for concurrent use.
type Pool struct {
	client  *client.Client
	acquire *client.Call
	idle    chan *nats.Conn
	waiting atomic.Int64
}

// NewPool opens a pool of size connections to a NATS server.
func NewPool(c *client.Client, url string, size int) (*Pool, error) {
	p := &Pool{
		client:  c,
		acquire: &client.Call{Service: service, Operation: operation},
		idle:    make(chan *nats.Conn, size),
	}
	for range size {
		conn, err := nats.Connect(url)
		if err != nil {
			p.Close()
			return nil, fmt.Errorf("opening the pool: %w", err)
		}
		p.idle <- conn
	}
	return p, nil
}

// Acquire takes a connection, which must be released. If none is free it retries according to the
// policy.
func (p *Pool) Acquire(ctx context.Context) (*nats.Conn, error) {
	p.waiting.Add(1)
	defer p.waiting.Add(-1)
	return client.Execute(ctx, p.client, p.acquire, p.take)
}

// Release gives a connection back.
func (p *Pool) Release(conn *nats.Conn) { p.idle <- conn }

// take is one attempt.
func (p *Pool) take(ctx context.Context) (*nats.Conn, error) {
	select {
	case conn := <-p.idle:
		return conn, nil
	default:
	}
	p.report(ctx) // first, so that the delay takes it into account
	return nil, &client.Error{Code: "POOL_EXHAUSTED", Message: fmt.Sprintf("all %d connections are in use", cap(p.idle))}
}

// KeepReporting reports the pool's health until ctx ends, even while all is well, so that delays
// shrink again.
func (p *Pool) KeepReporting(ctx context.Context) {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			p.report(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// report reports the pool's health. An error does not keep the caller from its connection.
func (p *Pool) report(ctx context.Context) {
	used := cap(p.idle) - len(p.idle)
	utilization, queue := 100*float64(used)/float64(cap(p.idle)), int(p.waiting.Load())
	err := p.client.ReportHealth(ctx, service, events.HealthReport{
		PoolUtilization: &utilization, ActiveConnections: &used, QueueLength: &queue,
	})
	if err != nil && ctx.Err() == nil {
		slog.Warn("the pool's health could not be reported", "error", err)
	}
}

// Close closes the idle connections. Release those in use before.
func (p *Pool) Close() {
	for len(p.idle) > 0 {
		(<-p.idle).Close()
	}
}
