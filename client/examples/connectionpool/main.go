// Command connectionpool acquires connections from a bounded pool that runs dry, with the policy
// of connection_pool.
//
// The pool reports how much of it is in use and how many callers wait. Adaptive delays heed these
// reports, in this process and in the service: the fuller the pool, the longer a caller stays
// away.
//
// Two reports hold both connections of the pool while three checkouts want one. Start the service
// with "rebound serve", look at "rebound status", and run
//
//	go run github.com/rebound-mq/rebound/client/examples/connectionpool
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"

	"github.com/rebound-mq/rebound/client"
	"github.com/rebound-mq/rebound/events"
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
	c, err := client.New(ctx, client.Config{Conn: nc, Source: "/examples/connectionpool"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close(context.WithoutCancel(ctx))) }()
	pool, err := NewPool(c, url, 2)
	if err != nil {
		return err
	}
	defer pool.Close()

	reporting, stop := context.WithCancel(ctx)
	var reporter sync.WaitGroup
	reporter.Go(func() { pool.KeepReporting(reporting) })
	defer reporter.Wait()
	defer stop()

	return trade(ctx, nc, pool, out)
}

// trade lets the reports finish once the first checkout has to wait.
func trade(ctx context.Context, nc *nats.Conn, pool *Pool, out io.Writer) error {
	decisions, err := nc.SubscribeSync(events.Subjects{}.Events(events.RetryScheduled, service, operation))
	if err != nil {
		return err
	}
	var reports []*nats.Conn
	for range 2 {
		conn, err := pool.Acquire(ctx)
		if err != nil {
			return err
		}
		reports = append(reports, conn)
	}
	fmt.Fprintln(out, "2 reports hold the pool")

	checkouts, checkingOut := errgroup.WithContext(ctx)
	for range 3 {
		checkouts.Go(func() error { return checkOut(checkingOut, pool) })
	}
	m, err := decisions.NextMsgWithContext(checkingOut)
	for _, conn := range reports {
		pool.Release(conn)
	}
	if err != nil {
		return errors.Join(err, checkouts.Wait())
	}
	var decision events.Scheduled
	if err := json.Unmarshal(m.Data, &decision); err != nil {
		return err
	}
	fmt.Fprintf(out, "a checkout waits %.1f times as long because of the pool\n", decision.Factors["pool"])
	if err := checkouts.Wait(); err != nil {
		return err
	}
	fmt.Fprintln(out, "3 checkouts had a connection")
	return nil
}

// checkOutTimeout bounds the use of a connection.
const checkOutTimeout = 5 * time.Second

// checkOut stands for work that needs a connection: one round trip to the server.
func checkOut(ctx context.Context, pool *Pool) error {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer pool.Release(conn)
	ctx, cancel := context.WithTimeout(ctx, checkOutTimeout)
	defer cancel()
	return conn.FlushWithContext(ctx)
}
