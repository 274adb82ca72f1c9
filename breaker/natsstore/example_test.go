package natsstore_test

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/breaker/natsstore"
)

// Several instances share their breakers through a key-value bucket, here with three replicas.
func ExampleNew() {
	nc, err := nats.Connect(nats.DefaultURL)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		fmt.Println(err)
		return
	}
	group := breaker.NewGroup(breaker.Config{
		Store:         natsstore.New(js, "", 3),
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
}
