package redisstore_test

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/breaker/redisstore"
)

// Several instances share their breakers through Redis: a single node, Sentinel (MasterName) or a
// Cluster (several addresses).
func ExampleNew() {
	client := redis.NewUniversalClient(redisstore.Options(&redis.UniversalOptions{Addrs: []string{"127.0.0.1:6379"}}))
	group := breaker.NewGroup(breaker.Config{
		Store:         redisstore.New(client, ""),
		StatusChanged: func(s breaker.Status) { fmt.Println("shared:", s.Shared, s.Err) },
	})

	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		group.Run(ctx)
	}()
	// … serve …
	stop()
	<-done
	_ = client.Close()
}
