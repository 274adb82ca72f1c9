package serve

import (
	"log/slog"

	"github.com/redis/go-redis/v9"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/breaker/redisstore"
	"github.com/rebound-mq/rebound/internal/config"
	"github.com/rebound-mq/rebound/internal/ledger"
	"github.com/rebound-mq/rebound/internal/ledger/redisledger"
	"github.com/rebound-mq/rebound/internal/redisconn"
)

// shared is the Redis in which the instances share their breakers and the limits of
// keys. The zero value stands for NATS.
type shared struct {
	client   redis.UniversalClient
	breakers breaker.Store
	ledgers  ledger.Store
}

// openShared opens the configured Redis, if any.
func openShared(c *config.Config, log *slog.Logger) (shared, error) {
	url := c.Redis.Reveal()
	if url == "" {
		return shared{}, nil
	}
	redisconn.LogTo(log)
	client, err := redisconn.Open(url)
	if err != nil {
		return shared{}, err
	}
	return shared{client, redisstore.New(client, redisstore.PrefixOf(c.Prefix)), redisledger.New(client, redisledger.PrefixOf(c.Prefix))}, nil
}

func (s *shared) close(log *slog.Logger) {
	if s.client == nil {
		return
	}
	if err := s.client.Close(); err != nil {
		log.Debug("closing the connection to Redis", "error", err)
	}
}
