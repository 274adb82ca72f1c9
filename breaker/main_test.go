package breaker

import (
	"context"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/rebound-mq/rebound/internal/testkit"
)

func TestMain(m *testing.M) {
	redis.SetLogger(silent{}) // the tests take Redis away on purpose
	testkit.Main(m, testkit.ProxyLeaks()...)
}

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}
