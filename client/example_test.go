package client_test

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/client"
	"github.com/rebound-mq/rebound/events"
)

// A client with a connection follows the policies in force in the service and publishes how
// operations end.
func ExampleNew() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	nc, stop := startRebound(ctx)
	defer stop()

	c, err := client.New(ctx, client.Config{Conn: nc, Source: "/billing/eu"})
	if err != nil {
		fmt.Println(err)
		return
	}
	receipt, err := c.Submit(ctx, client.Submission{Service: "billing", Operation: "charge", EventID: "inv-1"})
	fmt.Println(receipt.Source, receipt.EventID, err)
	fmt.Println(c.Close(ctx))
	// Output:
	// /billing/eu inv-1 <nil>
	// <nil>
}

// A charge failed; Rebound redelivers it to billing.charge.
func ExampleClient_Submit() {
	ctx, c, stop := startClient()
	defer stop()

	receipt, err := c.Submit(ctx, client.Submission{
		Service: "billing", Operation: "charge", EventID: "inv-1", Data: []byte(`{"amount":12}`),
		Priority: client.High, Deadline: time.Now().Add(time.Hour),
		Err: &client.Error{Code: "503", Message: "the card processor is away"},
	})
	fmt.Println(receipt.Stream, receipt.Sequence, receipt.Duplicate, err)

	again, err := c.Submit(ctx, client.Submission{Service: "billing", Operation: "charge", EventID: "inv-1"})
	fmt.Println(again.ID == receipt.ID, again.Duplicate, err)
	// Output:
	// RETRY_INTAKE 1 false <nil>
	// true true <nil>
}

// Everything that failed while the target was away is submitted at once.
func ExampleClient_SubmitBatch() {
	ctx, c, stop := startClient()
	defer stop()

	var batch []client.Submission
	for i := range 100 {
		batch = append(batch, client.Submission{Service: "billing", Operation: "charge", EventID: fmt.Sprintf("inv-%d", i)})
	}
	receipts, err := c.SubmitBatch(ctx, batch)
	fmt.Println(len(receipts), receipts[42].EventID, err)
	// Output: 100 inv-42 <nil>
}

// The acknowledgement is awaited later.
func ExampleClient_SubmitAsync() {
	ctx, c, stop := startClient()
	defer stop()

	submitted, err := c.SubmitAsync(ctx, client.Submission{Service: "billing", Operation: "charge", EventID: "inv-1"})
	if err != nil {
		fmt.Println(err)
		return
	}
	receipt, err := submitted.Wait(ctx)
	fmt.Println(receipt.Stream, err)
	// Output: RETRY_INTAKE <nil>
}

// The worker's first attempt fails, and Rebound redelivers the operation.
func ExampleClient_StartWorker() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	nc, stop := startRebound(ctx)
	defer stop()
	c, err := client.New(ctx, client.Config{Conn: nc})
	if err != nil {
		fmt.Println(err)
		return
	}
	worker, err := c.StartWorker(ctx, client.WorkerConfig{Service: "billing", Operation: "charge", SubmitFailures: true},
		func(_ context.Context, r *client.Request) error {
			fmt.Printf("attempt %d, redelivered: %t\n", r.Attempt, r.Redelivered())
			if r.Attempt == 1 {
				return &client.Error{Code: "503", Message: "the card processor is away"}
			}
			return nil
		})
	if err != nil {
		fmt.Println(err)
		return
	}

	m := nats.NewMsg("billing.charge")
	m.Header.Set("Nats-Msg-Id", "inv-1")
	if err := nc.PublishMsg(m); err != nil {
		fmt.Println(err)
	}
	for outcome := range c.Outcomes(ctx, client.OutcomeFilter{Since: time.Unix(1, 0)}) {
		fmt.Println(outcome.EventID, "ended in", outcome.Name())
		break
	}
	if err := worker.Stop(ctx); err != nil {
		fmt.Println(err)
	}
	if err := c.Close(ctx); err != nil {
		fmt.Println(err)
	}
	// Output:
	// attempt 1, redelivered: false
	// attempt 2, redelivered: true
	// inv-1 ended in retrySuccess
}

// Serve is the body of a service's main function.
func ExampleClient_Serve() {
	ctx, c, stop := startClient()
	defer stop()

	serving, finish := context.WithCancel(ctx) // in a program: signal.NotifyContext
	if _, err := c.Submit(ctx, client.Submission{Service: "billing", Operation: "charge", Data: []byte("inv-1")}); err != nil {
		fmt.Println(err)
	}
	err := c.Serve(serving, client.WorkerConfig{Service: "billing", Operation: "charge"}, func(_ context.Context, r *client.Request) error {
		fmt.Printf("charging %s\n", r.Data)
		finish()
		return nil
	})
	fmt.Println(err)
	// Output:
	// charging inv-1
	// <nil>
}

// Analytics counts every outcome once, even across restarts: the server keeps its position.
func ExampleClient_Outcomes() {
	ctx, c, stop := startClient()
	defer stop()
	for _, id := range []string{"inv-1", "inv-2"} {
		_, err := c.Submit(ctx, client.Submission{Service: "billing", Operation: "charge", EventID: id, Err: &client.Error{Code: "404"}})
		if err != nil {
			fmt.Println(err)
		}
	}

	analytics := client.OutcomeFilter{Name: events.RetryFailed, Since: time.Unix(1, 0), Durable: "analytics"}
	for range 2 { // the program runs twice
		for outcome, err := range c.Outcomes(ctx, analytics) {
			if err != nil {
				fmt.Println(err)
				break
			}
			fmt.Println(outcome.EventID, outcome.Reason)
			break
		}
	}
	// Unordered output:
	// inv-1 not_retryable
	// inv-2 not_retryable
}

// bury submits an operation that ends at once as a dead letter, and returns its id once it is
// stored.
func bury(ctx context.Context, c *client.Client, id string) string {
	receipt := must(c.Submit(ctx, client.Submission{
		Service: "billing", Operation: "charge", EventID: id, Data: []byte(`{"amount":12}`), Err: &client.Error{Code: "404", Message: "no such customer"},
	}))
	for outcome := range c.Outcomes(ctx, client.OutcomeFilter{Since: time.Unix(1, 0)}) {
		if outcome.ID == receipt.ID {
			break
		}
	}
	return receipt.ID
}

// Dead letters are listed.
func ExampleDeadLetters_List() {
	ctx, c, stop := startClient()
	defer stop()
	bury(ctx, c, "inv-1")

	for letter, err := range c.DeadLetters().List(ctx, client.DeadLetterFilter{Service: "billing"}) {
		if err != nil {
			fmt.Println(err)
			break
		}
		fmt.Printf("%s: %s, %s\n", letter.State.EventID, letter.Reason, letter.Data)
	}
	// Output: inv-1: not_retryable, {"amount":12}
}

// One dead letter is read whole, with its attempts.
func ExampleDeadLetters_Get() {
	ctx, c, stop := startClient()
	defer stop()
	id := bury(ctx, c, "inv-1")

	letter, err := c.DeadLetters().Get(ctx, id)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, attempt := range letter.State.History {
		fmt.Println(attempt.Number, attempt.Code, attempt.Error)
	}
	// Output: 1 404 no such customer
}

// The customer exists by now, so the dead letter is replayed.
func ExampleDeadLetters_Replay() {
	ctx, c, stop := startClient()
	defer stop()
	id := bury(ctx, c, "inv-1")
	charged := make(chan struct{})
	worker := must(c.StartWorker(ctx, client.WorkerConfig{Service: "billing", Operation: "charge"}, func(_ context.Context, r *client.Request) error {
		fmt.Printf("replay %d, attempt %d\n", r.Replays, r.Attempt)
		close(charged)
		return nil
	}))

	if err := c.DeadLetters().Replay(ctx, id); err != nil {
		fmt.Println(err)
		return
	}
	<-charged
	must(0, worker.Stop(ctx))
	// Output: replay 1, attempt 1
}

// Everything that failed for the same reason is replayed once that is repaired.
func ExampleDeadLetters_ReplayAll() {
	ctx, c, stop := startClient()
	defer stop()
	bury(ctx, c, "inv-1")
	bury(ctx, c, "inv-2")

	n, err := c.DeadLetters().ReplayAll(ctx, client.DeadLetterFilter{Service: "billing", ErrorCode: "404"})
	fmt.Println(n, err)
	// Output: 2 <nil>
}

// A dead letter that nobody needs is removed.
func ExampleDeadLetters_Discard() {
	ctx, c, stop := startClient()
	defer stop()
	id := bury(ctx, c, "inv-1")

	fmt.Println(c.DeadLetters().Discard(ctx, id))
	// Output: <nil>
}

// Dead letters older than a month are removed.
func ExampleDeadLetters_DiscardAll() {
	ctx, c, stop := startClient()
	defer stop()
	bury(ctx, c, "inv-1")

	n, err := c.DeadLetters().DiscardAll(ctx, client.DeadLetterFilter{Until: time.Now().AddDate(0, -1, 0)})
	fmt.Println(n, err)
	// Output: 0 <nil>
}

// A service reports its health, and every instance of Rebound hears it.
func ExampleClient_ReportHealth() {
	ctx, c, stop := startClient()
	defer stop()

	cpu, queue := 91.0, 120
	err := c.ReportHealth(ctx, "billing", events.HealthReport{CPUUtilization: &cpu, QueueLength: &queue})
	fmt.Println(err)
	// Output: <nil>
}

// All instances of Rebound together answer how billing is.
func ExampleClient_FetchHealth() {
	ctx, c, stop := startClient()
	defer stop()
	queue := 120
	if err := c.ReportHealth(ctx, "billing", events.HealthReport{QueueLength: &queue}); err != nil {
		fmt.Println(err)
	}

	services, err := c.FetchHealth(ctx)
	for len(services) == 0 && err == nil { // the report is on its way
		services, err = c.FetchHealth(ctx)
	}
	for _, m := range services {
		fmt.Printf("%s: %d requests wait\n", m.ServiceType, *m.QueueLength)
	}
	// Output: billing: 120 requests wait
}

// A stream worker takes operations from a stream and reports their results.
func ExampleClient_StartStreamWorker() {
	ctx, c, stop := startClient()
	defer stop()

	worker, err := c.StartStreamWorker(ctx, client.StreamWorkerConfig{Service: "billing", Operation: "charge"},
		func(_ context.Context, r *client.Request) error {
			fmt.Printf("charging %s, attempt %d\n", r.Data, r.Attempt)
			if r.Attempt == 2 {
				return &client.Error{Code: "503", Message: "the card processor is away"}
			}
			return nil
		})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = c.Submit(ctx, client.Submission{Service: "billing", Operation: "charge", Delivery: events.Publish, Data: []byte("inv-1")})
	if err != nil {
		fmt.Println(err)
	}
	for outcome := range c.Outcomes(ctx, client.OutcomeFilter{Since: time.Unix(1, 0)}) {
		fmt.Println("ended in", outcome.Name(), "after", outcome.Attempts, "attempts")
		break
	}
	if err := worker.Stop(ctx); err != nil {
		fmt.Println(err)
	}
	// Output:
	// charging inv-1, attempt 2
	// charging inv-1, attempt 3
	// ended in retrySuccess after 3 attempts
}

func ExampleClient_ServeStream() {
	ctx, c, stop := startClient()
	defer stop()

	serving, finish := context.WithCancel(ctx) // in a program: signal.NotifyContext
	_, err := c.Submit(ctx, client.Submission{Service: "billing", Operation: "charge", Delivery: events.Publish, Data: []byte("inv-1")})
	if err != nil {
		fmt.Println(err)
	}
	err = c.ServeStream(serving, client.StreamWorkerConfig{Service: "billing", Operation: "charge"}, func(_ context.Context, r *client.Request) error {
		fmt.Printf("charging %s\n", r.Data)
		finish()
		return nil
	})
	fmt.Println(err)
	// Output:
	// charging inv-1
	// <nil>
}
