package handlers_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/micro"

	"github.com/rebound-mq/rebound/handlers"
)

func TestService_MessageThatComesLateInAPullIsDeliveredOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, handlers.Config{})
	r.target("late.op", func(int, micro.Request) (string, string, micro.Headers) { return "", "", nil })

	// A pull lasts for seconds: most of these come late in one.
	const n = 20
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for i := range n {
		<-tick.C
		r.submit("retry.submit.late.op", map[string]string{"ce-basedelay": "1ms"}, fmt.Sprint(i))
	}
	r.awaitOutcomes(n, 20*time.Second)
	for stream, consumer := range map[string]string{"RETRY_INTAKE": "rebound-intake", "RETRY": "rebound-due-normal"} {
		c, err := r.js.Consumer(context.Background(), stream, consumer)
		if err != nil {
			t.Fatalf("reading consumer %s: %v", consumer, err)
		}
		if got := c.CachedInfo().Delivered.Consumer; got != n {
			t.Errorf("consumer %s made %d deliveries of %d messages, want one each", consumer, got, n)
		}
	}
}
