// Command contentsafety checks posts before they are published, with the policy of
// content_safety.
//
// A rejected post stays rejected: the failure is not retryable, and the post becomes a dead
// letter at once. An overloaded checker says when to come back, and Rebound does. Once a
// moderator has looked at the dead letters and allowed a word, the posts rejected for it are
// replayed.
//
// Start the service with "rebound serve", look at "rebound dead list", and run
//
//	go run github.com/rebound-mq/rebound/client/examples/contentsafety
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
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

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

// The key of all checks.
const (
	service   = "content_safety"
	operation = "check"
)

func run(ctx context.Context, url string, out io.Writer) (err error) {
	nc, err := nats.Connect(url)
	if err != nil {
		return err
	}
	defer nc.Close()
	c, err := client.New(ctx, client.Config{Conn: nc, Source: "/examples/contentsafety"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close(context.WithoutCancel(ctx))) }()

	checker := NewChecker("pills")
	checker.Overload(1)
	// One check at a time; Rebound redelivers those that fail at first.
	config := client.WorkerConfig{Service: service, Operation: operation, Concurrency: 1, SubmitFailures: true}
	worker, err := c.StartWorker(ctx, config, func(_ context.Context, r *client.Request) error {
		return checker.Check(string(r.Data))
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, worker.Stop(context.WithoutCancel(ctx))) }()

	begun := time.Now()
	weather, pills, err := publish(nc)
	if err != nil {
		return err
	}
	ended, err := follow(ctx, c, client.OutcomeFilter{Since: begun.Add(-skew)}, weather, pills)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "the weather: %s after %d attempts\n", ended[weather].Name(), ended[weather].Attempts)
	fmt.Fprintf(out, "the pills: %s after %d attempt\n", ended[pills].Name(), ended[pills].Attempts)
	return moderate(ctx, c, checker, ended[pills], out)
}

// moderate allows the word for which a post was rejected, and replays all posts rejected for it.
func moderate(ctx context.Context, c *client.Client, checker *Checker, post client.Outcome, out io.Writer) error {
	rejected := client.DeadLetterFilter{Service: service, Operation: operation, ErrorCode: codeRejected}
	for letter, err := range c.DeadLetters().List(ctx, rejected) {
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "rejected: %s\n", letter.Data)
	}
	checker.Allow("pills")
	n, err := c.DeadLetters().ReplayAll(ctx, rejected)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "replayed: %d\n", n)
	ended, err := follow(ctx, c, client.OutcomeFilter{After: post.Sequence}, post.EventID)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "the pills: %s in replay %d\n", ended[post.EventID].Name(), ended[post.EventID].Replay)
	return nil
}

// publish publishes two posts to be checked and returns their ids. It expects no replies.
func publish(nc *nats.Conn) (weather, pills string, err error) {
	weather, pills = nuid.Next(), nuid.Next()
	for _, post := range []struct{ id, text string }{{weather, "lovely weather"}, {pills, "buy pills"}} {
		m := nats.NewMsg(service + "." + operation)
		m.Header.Set(jetstream.MsgIDHeader, post.id)
		m.Data = []byte(post.text)
		err = errors.Join(err, nc.PublishMsg(m))
	}
	return weather, pills, err
}

// skew bounds the difference between the clocks of this machine and the server.
const skew = time.Minute

// follow waits for the outcomes of posts, given by id, among those that f selects.
func follow(ctx context.Context, c *client.Client, f client.OutcomeFilter, posts ...string) (map[string]client.Outcome, error) {
	f.Service, f.Operation = service, operation
	ended := make(map[string]client.Outcome)
	for outcome, err := range c.Outcomes(ctx, f) {
		if err != nil {
			return nil, err
		}
		if slices.Contains(posts, outcome.EventID) {
			ended[outcome.EventID] = outcome
		}
		if len(ended) == len(posts) {
			return ended, nil
		}
	}
	return nil, ctx.Err()
}
