// Command campaign lets Rebound retry the failed actions of two campaigns, with the policy of
// campaign_orchestrator.
//
// The actions of the launch are critical and go before those of the newsletter. The orchestrator
// is an ordinary NATS micro service that knows nothing of Rebound: an error reply is a failed
// attempt. At first it is too busy for one action in three, and one account is suspended. The
// program follows the outcomes until every action has one.
//
// Start the service with "rebound serve", and run
//
//	go run github.com/rebound-mq/rebound/client/examples/campaign
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
	"time"

	"github.com/nats-io/nats.go"

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
	c, err := client.New(ctx, client.Config{Conn: nc, Source: "/examples/campaign"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close(context.WithoutCancel(ctx))) }()
	orchestrator, err := startOrchestrator(nc)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, orchestrator.Stop()) }()

	launch := Campaign{ID: "product_launch_2026", Priority: client.Critical, Accounts: []string{"ann", "ben", "cleo", "dan", "eve", "finn"}}
	newsletter := Campaign{ID: "newsletter_may", Priority: client.Low, Accounts: []string{"ann", "suspended_1", "ben"}}
	begun := time.Now()
	receipts, err := c.SubmitBatch(ctx, append(launch.Failed(), newsletter.Failed()...))
	if err != nil {
		return err
	}
	ended, err := follow(ctx, c, begun, receipts)
	if err != nil {
		return err
	}
	launch.report(out, ended)
	newsletter.report(out, ended)
	return nil
}

// Campaign posts once for each of its accounts.
type Campaign struct {
	ID       string
	Priority client.Priority
	Accounts []string
}

// Failed returns the campaign's actions as operations whose first attempt failed.
func (c Campaign) Failed() []client.Submission {
	var all []client.Submission
	for i, account := range c.Accounts {
		all = append(all, client.Submission{
			Service: service, Operation: operation, Data: fmt.Appendf(nil, `{"action":%d,"account":%q}`, i, account),
			Campaign: c.ID, Account: account, Priority: c.Priority,
			Err: &client.Error{Code: "SERVICE_UNAVAILABLE", Message: "the orchestrator was restarted"},
		})
	}
	return all
}

func (c Campaign) report(out io.Writer, ended []client.Outcome) {
	attempts := 0
	count := map[string]int{}
	for _, o := range ended {
		if o.Campaign != c.ID {
			continue
		}
		count[o.Name()]++
		attempts += o.Attempts
		if o.Error != nil {
			fmt.Fprintf(out, "%s: given up for %s: %s\n", c.ID, o.Account, o.Error.Message)
		}
	}
	fmt.Fprintf(out, "%s: %d done, %d given up, %d attempts\n", c.ID, count[events.RetrySuccess], count[events.RetryFailed], attempts)
}

// skew bounds the difference between the clocks of this machine and the server.
const skew = time.Minute

// follow waits until all operations have ended.
func follow(ctx context.Context, c *client.Client, since time.Time, receipts []client.Receipt) ([]client.Outcome, error) {
	open := make(map[string]bool)
	for _, r := range receipts {
		open[r.ID] = true
	}
	var ended []client.Outcome
	for outcome, err := range c.Outcomes(ctx, client.OutcomeFilter{Service: service, Operation: operation, Since: since.Add(-skew)}) {
		switch {
		case err != nil:
			return nil, err
		case !open[outcome.ID]:
			continue // another program's
		}
		ended = append(ended, outcome)
		if delete(open, outcome.ID); len(open) == 0 {
			return ended, nil
		}
	}
	return nil, ctx.Err()
}
