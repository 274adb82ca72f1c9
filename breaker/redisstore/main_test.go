package redisstore

import (
	"context"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/breaker/internal/storetest"
	"github.com/rebound-mq/rebound/internal/testkit"
)

func TestMain(m *testing.M) {
	redis.SetLogger(silent{}) // the tests stop Redis on purpose
	testkit.Main(m, testkit.ProxyLeaks()...)
}

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

var store = storetest.Config{OwnClock: true, Expires: true, Open: func(t testing.TB, n int) []breaker.Store {
	r := testkit.Redis(t)
	return storetest.Handles(n, func() breaker.Store { return redisStore(t, r.Addr()) })
}}

func TestStore_DoesWhatEveryStoreMust(t *testing.T) { storetest.Run(t, store) }

func BenchmarkStore_Change(b *testing.B) { storetest.BenchmarkChange(b, store) }

func redisStore(t testing.TB, addr string) *Store {
	t.Helper()
	return New(universal(t, redis.UniversalOptions{Addrs: []string{addr}}), "")
}
