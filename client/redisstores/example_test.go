package redisstores_test

import (
	"context"
	"log"

	"github.com/nats-io/nats.go"
	"github.com/redis/go-redis/v9"

	"github.com/rebound-mq/rebound/client"
	"github.com/rebound-mq/rebound/client/redisstores"
)

// A process shares breakers and limits with a service that was started with --redis.
func ExampleNew() {
	nc, err := nats.Connect(nats.DefaultURL)
	if err != nil {
		log.Fatal(err)
	}
	defer nc.Close()
	rdb := redis.NewUniversalClient(redisstores.Options(&redis.UniversalOptions{Addrs: []string{"localhost:6379"}}))
	defer rdb.Close()
	c, err := client.New(context.Background(), client.Config{Conn: nc, Stores: redisstores.New(rdb, "")})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close(context.Background())
	log.Printf("%+v", c.Sharing())
}
