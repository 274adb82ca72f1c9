package redisconn

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/rebound-mq/rebound/events"
)

// Open returns a client for the Redis at a URL:
//
//	redis://[user:password@]host[:port][/database]   a single node
//	…?master_name=NAME[&addr=host:port…]              Sentinel; the URL and addr name the sentinels
//	…?addr=host:port[&addr=host:port…]                a Cluster; the URL and addr name some of its nodes
//
// The scheme rediss adds TLS. Further parameters are those of [redis.ParseURL]. The client
// connects on first use, so an unreachable Redis is not an error. Errors never show the
// credentials. The caller closes the client.
func Open(text string) (redis.UniversalClient, error) {
	o, err := parse(text)
	if err != nil {
		return nil, err
	}
	return redis.NewUniversalClient(Options(o)), nil
}

// Options adjusts o so that a call ends with its context even if Redis hangs, and is not retried:
// an instance that cannot reach Redis goes on alone rather than wait.
func Options(o *redis.UniversalOptions) *redis.UniversalOptions {
	o.ContextTimeoutEnabled = true
	o.MaxRetries = -1
	o.DialerRetries = 1
	return o
}

func parse(text string) (*redis.UniversalOptions, error) {
	u, err := url.Parse(text)
	if err != nil {
		// The error would show the URL.
		return nil, errors.New("the Redis URL is invalid: it needs the form redis://user:password@host:port/database, with special characters of the password percent-encoded")
	}
	query := u.Query()
	addrs, master := query["addr"], query.Get("master_name")
	query.Del("addr")
	query.Del("master_name")
	u.RawQuery = query.Encode()
	single, err := redis.ParseURL(u.String())
	if err != nil {
		return nil, fmt.Errorf("the Redis URL of %s: %w", u.Host, err)
	}
	for _, a := range addrs {
		if _, _, err := net.SplitHostPort(a); err != nil {
			return nil, fmt.Errorf("the Redis URL of %s: addr %q is not of the form host:port", u.Host, a)
		}
	}
	return &redis.UniversalOptions{
		Addrs: append([]string{single.Addr}, addrs...), MasterName: master, DB: single.DB,
		Username: single.Username, Password: single.Password, TLSConfig: single.TLSConfig,
		ClientName: single.ClientName, Protocol: single.Protocol,
		DialTimeout: single.DialTimeout, ReadTimeout: single.ReadTimeout, WriteTimeout: single.WriteTimeout,
		PoolSize: single.PoolSize, MinIdleConns: single.MinIdleConns, MaxIdleConns: single.MaxIdleConns, MaxActiveConns: single.MaxActiveConns,
		PoolTimeout: single.PoolTimeout, ConnMaxIdleTime: single.ConnMaxIdleTime, ConnMaxLifetime: single.ConnMaxLifetime,
	}, nil
}

// Prefix returns the beginning of the names of one kind in Redis, as those of the deployment with a
// subject prefix, empty for the default one.
func Prefix(subjects, kind string) string {
	if subjects == "" || subjects == events.DefaultPrefix {
		return "rebound:" + kind + ":"
	}
	return "rebound:" + subjects + ":" + kind + ":"
}

// Version asks the server for its version.
func Version(ctx context.Context, client redis.UniversalClient) (string, error) {
	info, err := client.Info(ctx, "server").Result()
	if err != nil {
		return "", fmt.Errorf("asking Redis for its version: %w", err)
	}
	for lines := bufio.NewScanner(strings.NewReader(info)); lines.Scan(); {
		if version, ok := strings.CutPrefix(lines.Text(), "redis_version:"); ok {
			return version, nil
		}
	}
	return "", errors.New("asking Redis for its version: the answer has none")
}

// LogTo sets the logger of the client library, which is common to all clients, and lowers its
// messages to debug level; the users of the clients log what matters.
func LogTo(log *slog.Logger) { redis.SetLogger(&logger{log}) }

type logger struct{ log *slog.Logger }

// Printf implements the library's interface.
func (l *logger) Printf(ctx context.Context, format string, v ...any) {
	l.log.DebugContext(ctx, fmt.Sprintf(format, v...), "from", "go-redis")
}
