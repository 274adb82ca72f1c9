// Package redisstores lets client.Execute share breakers and limits with a service that keeps them
// in Redis (rebound serve --redis). [New] makes what client.Config.Stores takes. It is a package of
// its own so that programs without Redis do not link its client.
package redisstores

import (
	"github.com/redis/go-redis/v9"

	"github.com/rebound-mq/rebound/breaker/redisstore"
	"github.com/rebound-mq/rebound/client"
	"github.com/rebound-mq/rebound/internal/ledger/redisledger"
)

// New returns the stores behind rdb, which may be a single node, Sentinel or a Cluster; make it
// with options passed through [Options]. prefix is that of client.Config. The caller closes rdb,
// after the client. New does no I/O.
func New(rdb redis.UniversalClient, prefix string) *client.Stores {
	return &client.Stores{
		Breakers: redisstore.New(rdb, redisstore.PrefixOf(prefix)),
		Limits:   redisledger.New(rdb, redisledger.PrefixOf(prefix)),
	}
}

// Options adjusts o so that a call ends with its context even if Redis hangs, and is not retried:
// Execute goes on alone rather than wait.
func Options(o *redis.UniversalOptions) *redis.UniversalOptions { return redisstore.Options(o) }
