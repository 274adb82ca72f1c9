package redisledger_test

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/breaker/redisstore"
	"github.com/rebound-mq/rebound/internal/ledger/redisledger"
	"github.com/rebound-mq/rebound/internal/redisconn"
	"github.com/rebound-mq/rebound/internal/testkit"
	"github.com/rebound-mq/rebound/scheduler/gate"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func client(t *testing.T, addr string) redis.UniversalClient {
	t.Helper()
	c := redis.NewUniversalClient(redisconn.Options(&redis.UniversalOptions{Addrs: []string{addr}}))
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestStore_AnswersThatAreNoneAreErrors makes Redis refuse: that is neither contention nor
// an empty ledger.
func TestStore_AnswersThatAreNoneAreErrors(t *testing.T) {
	t.Parallel()
	for name, refuse := range map[string][]any{
		"a replica that takes no writes": {"REPLICAOF", "127.0.0.1", "1"},
		"no memory left":                 {"CONFIG", "SET", "maxmemory", "1"},
	} {
		t.Run(name, func(t *testing.T) {
			c := client(t, testkit.Redis(t).Addr())
			store := redisledger.New(c, "")
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			if err := c.Do(ctx, refuse...).Err(); err != nil {
				t.Fatal(err)
			}
			lease, err := store.Renew(ctx, "pay:charge", gate.Claim{Instance: "a", Waiting: 10}, gate.Settings{PerMinute: 10})
			if err == nil || ctx.Err() != nil || lease.Granted {
				t.Errorf("the lease is %+v with error %v, want none and the error at once", lease, err)
			}
			reply, err := redisstore.New(c, "").Apply(ctx, "pay:charge", breaker.Event{Kind: breaker.Trip}, time.Now(), breaker.Settings{})
			if err == nil || ctx.Err() != nil {
				t.Errorf("the breaker answers %+v with error %v, want the error at once", reply, err)
			}
		})
	}
}

func TestStore_FlushForgetsNoBudget(t *testing.T) {
	t.Parallel()
	server := testkit.Redis(t)
	limits := gate.Settings{PerMinute: 10}
	store := redisledger.New(client(t, server.Addr()), "")
	g := gate.New(limits)
	renew := func() {
		t.Helper()
		c := g.HandIn(time.Now())
		c.Instance, c.Waiting = "a", 10
		lease, err := store.Renew(t.Context(), "pay:charge", c, limits)
		if err != nil {
			t.Fatal(err)
		}
		lease.Until = time.Now().Add(time.Minute)
		g.Share(lease)
	}
	enter := func() (n int) {
		for {
			if _, _, ok := g.Enter(gate.Conditions{}, time.Now()); !ok {
				return n
			}
			n++
		}
	}
	renew()
	if n := enter(); n != 10 {
		t.Fatalf("%d went, want all 10", n)
	}
	renew()
	server.Flush()
	flushed := time.Now()
	testkit.Eventually(t, 20*time.Second, "the rebuilt ledger giving out again", func() bool {
		renew()
		if n := enter(); n > 0 && time.Since(flushed) < 50*time.Second {
			t.Errorf("%d more went after the flush", n)
		}
		return time.Since(flushed) > 5*gate.LeaseTime/2
	})
}
