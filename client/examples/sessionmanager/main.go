// Command sessionmanager keeps accounts logged in at a platform and acts for them, with the
// policy of session_manager.
//
// A busy platform is asked again. An expired session is a failure that depends on its context:
// the next attempt renews it, once. If the new session has expired too, no further attempt would
// help, and the policy's rule "expired session" ends the operation.
//
// The program brings its own platform. Start the service with "rebound serve", follow what
// happens with "rebound outcomes", and run
//
//	go run github.com/rebound-mq/rebound/client/examples/sessionmanager
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/signal"

	"github.com/nats-io/nats.go"

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
	c, err := client.New(ctx, client.Config{Conn: nc, Source: "/examples/sessionmanager"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close(context.WithoutCancel(ctx))) }()
	server := httptest.NewServer(newPlatform())
	defer server.Close()

	sessions := NewSessions(c, server.Client(), server.URL)
	attempt, err := sessions.Create(ctx, "alice")
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "alice: session created by attempt %d\n", attempt)
	for _, action := range []struct{ account, text string }{
		{"alice", "good morning"}, {"alice", "good evening"}, {"mallory", "good night"},
	} {
		attempt, err := sessions.Act(ctx, action.account, action.text)
		var refused *client.NotRetryableError
		switch {
		case errors.As(err, &refused):
			fmt.Fprintf(out, "%s: %q not posted, by rule %q after %d attempts\n", action.account, action.text, refused.Rule, refused.Attempts)
		case err != nil:
			return err
		default:
			fmt.Fprintf(out, "%s: %q posted by attempt %d\n", action.account, action.text, attempt)
		}
	}
	return nil
}
