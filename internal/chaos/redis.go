//go:build linux

package chaos

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rebound-mq/rebound/internal/backoff"
	"github.com/rebound-mq/rebound/internal/chaos/machine"
)

// redisServer is the redis-server of a history.
type redisServer struct {
	*machine.Process
	port int
}

func (r *redisServer) url() string { return "redis://127.0.0.1:" + strconv.Itoa(r.port) }

// startRedis starts a redis-server if the kind has Redis.
func (h *history) startRedis(ctx context.Context) error {
	if !h.kind.Redis {
		return nil
	}
	path, err := exec.LookPath(h.config.RedisServer)
	if err != nil {
		return fmt.Errorf("redis-server is not installed (%w); install it, on Debian with: apt-get install redis-server", err)
	}
	r := new(redisServer)
	if r.port, err = h.ports.Take(); err != nil {
		return err
	}
	r.Process, err = h.process(machine.Command{Name: "redis", Path: path, Args: []string{
		"--bind", "127.0.0.1", "--port", strconv.Itoa(r.port), "--save", "", "--appendonly", "no", "--dir", h.dir, "--daemonize", "no",
	}})
	if err != nil {
		return err
	}
	h.redis = r
	if err := r.Start(); err != nil {
		return err
	}
	return r.await(ctx)
}

func (r *redisServer) await(ctx context.Context) error {
	return await(ctx, startWait, func(ctx context.Context) bool {
		return r.do(func(c *redis.Client) error { return c.Ping(ctx).Err() }) == nil
	})
}

func (r *redisServer) do(f func(c *redis.Client) error) error {
	options, err := redis.ParseURL(r.url())
	if err != nil {
		return err
	}
	c := redis.NewClient(options)
	return errors.Join(f(c), c.Close())
}

func redisFlush(ctx context.Context, o *operator) {
	o.h.note("Redis flushed")
	o.h.failed(o.h.redis.do(func(c *redis.Client) error { return c.FlushAll(ctx).Err() }))
}

// redisRestart restarts Redis empty.
func redisRestart(ctx context.Context, o *operator) {
	away := o.between(0, 2*time.Second)
	o.h.note("Redis killed, away for %s", away.Round(time.Millisecond))
	o.h.redis.Kill()
	backoff.Sleep(ctx, away)
	o.h.failed(o.h.redis.Start())
	o.h.failed(o.h.redis.await(ctx))
	o.h.note("Redis is back, empty")
}

func redisHalt(ctx context.Context, o *operator) {
	d := o.between(500*time.Millisecond, 4*time.Second)
	o.h.note("Redis stands still for %s", d.Round(time.Millisecond))
	o.h.redis.Freeze()
	backoff.Sleep(ctx, d)
	o.h.redis.Thaw()
	o.h.note("Redis goes on")
}

// redisReadOnly makes Redis refuse writes for a while.
func redisReadOnly(ctx context.Context, o *operator) {
	d := o.between(500*time.Millisecond, 4*time.Second)
	o.h.note("Redis is read-only for %s", d.Round(time.Millisecond))
	set := func(n string) error {
		return o.h.redis.do(func(c *redis.Client) error { return c.ConfigSet(ctx, "min-replicas-to-write", n).Err() })
	}
	o.h.failed(set("1"))
	backoff.Sleep(ctx, d)
	o.h.failed(set("0"))
	o.h.note("Redis may be written again")
}
