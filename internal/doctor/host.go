package doctor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/internal/config"
	"github.com/rebound-mq/rebound/internal/policies"
	"github.com/rebound-mq/rebound/internal/redisconn"
	"github.com/rebound-mq/rebound/internal/wording"
)

func (d *Diagnosis) configuration(c *config.Config) {
	switch err := c.CheckServe(); {
	case err != nil:
		d.add(Fail, "settings", wording.Sentence(err), "change or remove that setting")
	case len(c.Warnings) > 0:
		d.add(Warn, "settings", strings.Join(c.Warnings, "; "), "remove what has no effect")
	default:
		d.add(OK, "settings", configFile(c), "")
	}
	if _, err := policies.OfFile(c.Policies); err != nil {
		d.add(Fail, "policy file", wording.Sentence(err), "correct the policy file")
	} else {
		d.add(OK, "policy file", wording.Or(c.Policies, "none"), "")
	}
}

func configFile(c *config.Config) string {
	if c.File == "" {
		return "no configuration file"
	}
	return "read from " + c.File
}

// unreachable makes the checks that need no server. An embedded server that is not running
// is not a failure.
func (d *Diagnosis) unreachable(ctx context.Context, c *config.Config, err error) {
	if !c.Embedded() || !errors.Is(err, nats.ErrNoServers) {
		d.add(Fail, "connection", wording.Sentence(err), "check address, credentials and TLS settings")
		return
	}
	d.add(Warn, "connection", "the embedded server is not running at "+c.Listen, "start it with `rebound serve` and run the doctor again to check the rest")
	d.durability(c, nil)
	d.storeDir(c.StoreDir)
	for what, addr := range map[string]string{"listen": c.Listen, "http": c.HTTP} {
		if addr != "" {
			d.port(ctx, what, addr)
		}
	}
}

func (d *Diagnosis) storeDir(dir string) {
	if dir == "" {
		return
	}
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		d.add(OK, "store directory", dir+" will be made", "")
		return
	case err == nil && !info.IsDir():
		err = errors.New("it is no directory")
	case err == nil:
		var probe *os.File
		if probe, err = os.CreateTemp(dir, ".writable-*"); err == nil {
			err = errors.Join(probe.Close(), os.Remove(probe.Name()))
		}
	}
	if err != nil {
		d.add(Fail, "store directory", fmt.Sprintf("%s cannot be written: %v", dir, err), "choose another with --store-dir")
		return
	}
	d.add(OK, "store directory", dir, "")
}

func (d *Diagnosis) port(ctx context.Context, what, addr string) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		d.add(Fail, what, wording.Sentence(err), "choose another address with --"+what)
		return
	}
	_ = l.Close()
	d.add(OK, what, addr+" is free", "")
}

// redisTimeout bounds the doctor's request to Redis.
const redisTimeout = 3 * time.Second

// redis checks the Redis that is configured, if one is.
func (d *Diagnosis) redis(ctx context.Context, c *config.Config, log *slog.Logger) {
	const check = "redis"
	if c.Redis.Reveal() == "" {
		d.add(OK, check, "none; the instances share their circuit breakers in NATS", "")
		return
	}
	redisconn.LogTo(log)
	client, err := redisconn.Open(c.Redis.Reveal())
	if err != nil {
		d.add(Fail, check, wording.Sentence(err), "correct --redis")
		return
	}
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	version, err := redisconn.Version(ctx, client)
	if err != nil {
		d.add(Warn, check, wording.Sentence(err), "until it can be reached the circuit breakers are each instance's own; operations are safe nevertheless")
		return
	}
	d.add(OK, check, "version "+version+" at "+c.Redis.String(), "")
}
