// Command analytics counts how operations end, by service and campaign. It counts each outcome
// exactly once, whatever happens to the program.
//
// Its totals and the sequence of the last outcome that they contain are one value in a key-value
// bucket, so one write stores both. A durable consumer would keep its position separately, and a
// crash between the two writes would count an outcome twice. A second analytics running at the
// same time is noticed by the value's revision and ends.
//
// Start the service with "rebound serve", and run
//
//	go run github.com/rebound-mq/rebound/client/examples/analytics
//
// which prints the totals whenever they change. It can be stopped and restarted at any time. The
// other examples give it something to count.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/client"
)

func main() {
	url := flag.String("nats", nats.DefaultURL, "the NATS server that rebound serve is on")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *url, os.Stdout)
	stop()
	if err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, url string, out io.Writer) (err error) {
	nc, err := nats.Connect(url)
	if err != nil {
		return err
	}
	defer nc.Close()
	c, err := client.New(ctx, client.Config{Conn: nc, Source: "/examples/analytics"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close(context.WithoutCancel(ctx))) }()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	kept, err := openTotals(ctx, js)
	if err != nil {
		return err
	}
	totals, err := kept.load(ctx)
	if err != nil {
		return err
	}
	for outcome, err := range c.Outcomes(ctx, totals.rest()) {
		if err != nil {
			return err
		}
		totals.add(outcome)
		// An interrupt ends the iteration but must not interrupt a write.
		if err := kept.store(context.WithoutCancel(ctx), totals); err != nil {
			return err
		}
		group := groupOf(outcome)
		fmt.Fprintf(out, "%s: %s\n", group, totals.Groups[group])
	}
	return nil
}
