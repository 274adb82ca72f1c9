package breaker

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/rebound-mq/rebound/internal/testkit"
)

func universal(t *testing.T, o redis.UniversalOptions) redis.UniversalClient {
	t.Helper()
	client := redis.NewUniversalClient(RedisOptions(&o))
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Errorf("closing the Redis client: %v", err)
		}
	})
	return client
}

// Every script touches keys of one slot only, and a Cluster accepts them.
func TestRedisCluster(t *testing.T) {
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
	client := func() Store {
		return NewRedis(universal(t, redis.UniversalOptions{Addrs: []string{nodes[0].Addr(), nodes[1].Addr()}}), "")
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
	all := fleet(t, handles(3, client), settings())
	for n := range 20 {
		if _, err := all[0].Trip(t.Context(), fmt.Sprintf("service%d:op", n), 0, ""); err != nil {
			t.Fatalf("service%d: %v", n, err)
		}
	}
	all[0].fail(t, 3)
	eventually(t, all, 5*time.Second, Open)
	circuits, err := all[2].Circuits(t.Context())
	if err != nil || len(circuits) != 24 {
		t.Errorf("the cluster holds %d circuits with error %v, want 24 and none", len(circuits), err)
	}
}

func TestRedisFailover(t *testing.T) {
	master := testkit.Redis(t)
	replica, sentinel := testkit.Sentinel(t, master)
	all := fleet(t, handles(2, func() Store {
		return NewRedis(universal(t, redis.UniversalOptions{Addrs: []string{sentinel.Addr()}, MasterName: testkit.MasterName}), "")
	}), settings())
	if _, err := all[0].Hold(t.Context(), key, "maintenance"); err != nil {
		t.Fatal(err)
	}
	eventually(t, all, 5*time.Second, Open)
	master.Stop()
	for _, i := range all {
		alone(t, i)
	}
	for _, i := range all {
		testkit.Eventually(t, 30*time.Second, "the instance shares the new master", func() bool { return i.Status().Shared })
		if i.State() != Open {
			t.Errorf("after the failover it is %v, want OPEN", i.State())
		}
	}
	role, err := universal(t, redis.UniversalOptions{Addrs: []string{replica.Addr()}}).Do(t.Context(), "ROLE").Slice()
	if err != nil || len(role) == 0 || role[0] != "master" {
		t.Errorf("the replica's role is %v with error %v, want master", role, err)
	}
	if _, err := all[1].Reset(t.Context(), key, ""); err != nil {
		t.Fatal(err)
	}
	eventually(t, all, 5*time.Second, Closed)
}
