package redisstore

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/breaker/internal/storetest"
	"github.com/rebound-mq/rebound/internal/testkit"
)

func universal(t testing.TB, o redis.UniversalOptions) redis.UniversalClient {
	t.Helper()
	client := redis.NewUniversalClient(Options(&o))
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Errorf("closing the Redis client: %v", err)
		}
	})
	return client
}

// Every script touches keys of one slot only, so a Cluster accepts it.
func TestStore_SharesBreakersOnARedisCluster(t *testing.T) {
	t.Parallel()
	nodes := []*testkit.RedisServer{testkit.Redis(t, "--cluster-enabled", "yes"), testkit.Redis(t, "--cluster-enabled", "yes")}
	const slots = 16384
	for n, node := range nodes {
		c := universal(t, redis.UniversalOptions{Addrs: []string{node.Addr()}})
		if err := c.Do(t.Context(), "CLUSTER", "ADDSLOTSRANGE", n*slots/2, (n+1)*slots/2-1).Err(); err != nil {
			t.Fatal(err)
		}
		host, port, _ := net.SplitHostPort(nodes[0].Addr())
		if err := c.Do(t.Context(), "CLUSTER", "MEET", host, port).Err(); err != nil {
			t.Fatal(err)
		}
	}
	client := func() breaker.Store {
		return New(universal(t, redis.UniversalOptions{Addrs: []string{nodes[0].Addr(), nodes[1].Addr()}}), "")
	}
	probe := universal(t, redis.UniversalOptions{Addrs: []string{nodes[0].Addr(), nodes[1].Addr()}})
	testkit.Eventually(t, 30*time.Second, "the cluster is whole", func() bool {
		for i := range 20 {
			if probe.Set(t.Context(), fmt.Sprint("probe", i), 1, time.Minute).Err() != nil {
				return false
			}
		}
		return true
	})
	all := storetest.Fleet(t, storetest.Handles(3, client), storetest.Settings())
	for n := range 20 {
		if _, err := all[0].Trip(t.Context(), fmt.Sprintf("service%d:op", n), 0, breaker.Operator{}); err != nil {
			t.Fatalf("service%d: %v", n, err)
		}
	}
	all[0].Fail(t, 3)
	storetest.Eventually(t, all, breaker.Open)
	circuits, err := all[2].Circuits(t.Context())
	if err != nil || len(circuits) != 24 {
		t.Errorf("the cluster holds %d circuits with error %v, want 24 and none", len(circuits), err)
	}
}

func TestStore_FollowsAFailover(t *testing.T) {
	t.Parallel()
	master := testkit.Redis(t)
	replica, sentinel := testkit.Sentinel(t, master)
	all := storetest.Fleet(t, storetest.Handles(2, func() breaker.Store {
		return New(universal(t, redis.UniversalOptions{Addrs: []string{sentinel.Addr()}, MasterName: testkit.MasterName}), "")
	}), storetest.Settings())
	if _, err := all[0].Hold(t.Context(), storetest.Key, breaker.Operator{Note: "maintenance"}); err != nil {
		t.Fatal(err)
	}
	storetest.Eventually(t, all, breaker.Open)
	master.Stop()
	for _, i := range all {
		storetest.Alone(t, i)
	}
	for _, i := range all {
		// A Sentinel that stood still fails nobody over for half a minute.
		testkit.Eventually(t, 3*time.Minute, "the instance shares the new master", func() bool { return i.Status().Shared })
		if i.State() != breaker.Open {
			t.Errorf("after the failover it is %v, want OPEN", i.State())
		}
	}
	role, err := universal(t, redis.UniversalOptions{Addrs: []string{replica.Addr()}}).Do(t.Context(), "ROLE").Slice()
	if err != nil || len(role) == 0 || role[0] != "master" {
		t.Errorf("the replica's role is %v with error %v, want master", role, err)
	}
	if _, err := all[1].Reset(t.Context(), storetest.Key, breaker.Operator{}); err != nil {
		t.Fatal(err)
	}
	storetest.Eventually(t, all, breaker.Closed)
}
