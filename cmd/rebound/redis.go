package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/config"
	"github.com/rebound-mq/rebound/internal/redisconn"
)

// sharedBreakers returns the Redis in which the instances share their breakers,
// nil for NATS, and what closes it.
func sharedBreakers(c *config.Config, log *slog.Logger) (store breaker.Store, closing func(), err error) {
	url := c.Redis.Reveal()
	if url == "" {
		return nil, func() {}, nil
	}
	redisconn.LogTo(log)
	client, err := redisconn.Open(url)
	if err != nil {
		return nil, nil, err
	}
	prefix := breaker.DefaultPrefix
	if c.Prefix != events.DefaultPrefix {
		prefix = "rebound:" + c.Prefix + ":breaker:"
	}
	return breaker.NewRedis(client, prefix), func() {
		if err := client.Close(); err != nil {
			log.Debug("closing the connection to Redis", "error", err)
		}
	}, nil
}

// redisTimeout bounds the doctor's question to Redis.
const redisTimeout = 3 * time.Second

// redis checks the Redis that is configured, if one is.
func (d *diagnosis) redis(ctx context.Context, c *config.Config, log *slog.Logger) {
	const check = "redis"
	if c.Redis.Reveal() == "" {
		d.add(checkOK, check, "none; the instances share their circuit breakers in NATS", "")
		return
	}
	redisconn.LogTo(log)
	client, err := redisconn.Open(c.Redis.Reveal())
	if err != nil {
		d.add(checkFail, check, oneSentence(err), "correct --redis")
		return
	}
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	version, err := redisconn.Version(ctx, client)
	if err != nil {
		d.add(checkWarn, check, oneSentence(err), "until it can be reached the circuit breakers are each instance's own; operations are safe nevertheless")
		return
	}
	d.add(checkOK, check, "version "+version+" at "+c.Redis.String(), "")
}
