package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/client"
	"github.com/rebound-mq/rebound/events"
)

// A session is created under the built-in policy of session_manager. The first attempt fails.
func ExampleExecute() {
	ctx := context.Background()
	c, err := client.New(ctx, client.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	createSession := &client.Call{
		Service: "session_manager", Operation: "create_session",
		Overrides: map[string]string{"baseDelay": "10ms"},
	}

	session, err := client.Execute(ctx, c, createSession, func(ctx context.Context) (string, error) {
		attempt := client.AttemptFrom(ctx)
		if attempt == 1 {
			return "", &client.Error{Code: "SERVICE_UNAVAILABLE"}
		}
		return fmt.Sprintf("session made by attempt %d", attempt), nil
	})
	fmt.Println(session, err)
	// Output: session made by attempt 2 <nil>
}

// The reason why there is no result decides what to do.
func ExampleExecute_errors() {
	ctx := context.Background()
	c, err := client.New(ctx, client.Config{Policies: quickPolicies()})
	if err != nil {
		fmt.Println(err)
		return
	}
	executeAction := &client.Call{Service: "session_manager", Operation: "execute_action"}

	_, err = client.Execute(ctx, c, executeAction, func(context.Context) (struct{}, error) {
		return struct{}{}, &client.Error{Code: "FORBIDDEN", Message: "the account is suspended"}
	})
	var (
		limited     *client.RateLimitedError
		unavailable *client.BreakerOpenError
		exhausted   *client.ExhaustedError
		wrong       *client.NotRetryableError
	)
	switch {
	case errors.As(err, &limited):
		fmt.Println("come back at", limited.RetryAt)
	case errors.As(err, &unavailable):
		fmt.Println("the breaker is open until", unavailable.RetryAt)
	case errors.As(err, &exhausted):
		fmt.Println("gave up after", exhausted.Attempts, "attempts")
	case errors.As(err, &wrong):
		fmt.Printf("%v, by rule %s\n", wrong.Last, wrong.Rule)
	}
	// Output: the account is suspended, by rule forbidden
}

// An action of a campaign is critical: if it does not succeed here it continues in the service,
// which redelivers it to the worker of the same action.
func ExampleWithHandOver() {
	ctx, c, stop := startClient()
	defer stop()
	worker, err := c.StartWorker(ctx, client.WorkerConfig{Service: "campaign_orchestrator", Operation: "execute_action"},
		func(_ context.Context, r *client.Request) error {
			fmt.Printf("attempt %d of action %s\n", r.Attempt, r.Data)
			return nil
		})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { must(0, worker.Stop(ctx)) }()

	executeAction := &client.Call{
		Service: "campaign_orchestrator", Operation: "execute_action", Campaign: "product_launch_2026", Priority: client.Critical,
		Overrides: map[string]string{"baseDelay": "1ms", "maxDelay": "5ms"},
	}
	_, err = client.Execute(ctx, c, executeAction, func(context.Context) (int, error) {
		return 0, &client.Error{Code: "503", Message: "no capacity"}
	}, client.WithEventID("action-1"), client.WithHandOver(client.Submission{Data: []byte("post"), Target: "campaign_orchestrator.execute_action"}))

	var over *client.HandedOverError
	if !errors.As(err, &over) {
		fmt.Println(err)
		return
	}
	fmt.Printf("handed over after %d attempts: %v\n", over.Attempts, over.Last)
	for outcome := range c.Outcomes(ctx, client.OutcomeFilter{Since: time.Unix(1, 0)}) {
		fmt.Println(outcome.EventID, "ended in", outcome.Name())
		break
	}
	// Unordered output:
	// handed over after 2 attempts: no capacity
	// attempt 3 of action post
	// action-1 ended in retrySuccess
}

// Only two attempts are made here, whatever the policy allows.
func ExampleWithMaxAttempts() {
	ctx := context.Background()
	c := must(client.New(ctx, client.Config{Policies: quickPolicies()}))
	_, err := client.Execute(ctx, c, &client.Call{Service: "billing", Operation: "charge"}, func(ctx context.Context) (int, error) {
		fmt.Println("attempt", client.AttemptFrom(ctx))
		return 0, errors.New("connection refused")
	}, client.WithMaxAttempts(2))
	fmt.Println(errors.Is(err, client.ErrExhausted))
	// Output:
	// attempt 1
	// attempt 2
	// true
}

// The operation's events carry the id of the invoice.
func ExampleWithEventID() {
	ctx, c, stop := startClient()
	defer stop()
	_, err := client.Execute(ctx, c, &client.Call{Service: "billing", Operation: "charge"}, func(ctx context.Context) (int, error) {
		if client.AttemptFrom(ctx) == 1 {
			return 0, &client.Error{Code: "503"}
		}
		return 42, nil
	}, client.WithEventID("inv-1"))
	if err != nil {
		fmt.Println(err)
	}
	for outcome := range c.Outcomes(ctx, client.OutcomeFilter{Service: "billing", Since: time.Unix(1, 0)}) {
		fmt.Printf("%s: %s after %d attempts\n", outcome.EventID, outcome.Name(), outcome.Attempts)
		break
	}
	// Output: inv-1: retrySuccess after 2 attempts
}

// A function tells its target which attempt this is.
func ExampleAttemptFrom() {
	ctx := context.Background()
	c := must(client.New(ctx, client.Config{Policies: quickPolicies()}))
	got, err := client.Execute(ctx, c, &client.Call{Service: "billing", Operation: "charge"}, func(ctx context.Context) (string, error) {
		request := nats.NewMsg("billing.charge")
		request.Header.Set(events.HeaderAttempt, fmt.Sprint(client.AttemptFrom(ctx)))
		return request.Header.Get(events.HeaderAttempt), nil
	})
	fmt.Println(got, err)
	// Output: 1 <nil>
}

// A Call is made once and used for all operations of its kind.
func ExampleCall() {
	acquire := &client.Call{
		Service: "connection_pool", Operation: "acquire_connection",
		Account: "premium_account_1", Priority: client.High,
		Overrides: map[string]string{"maxAttempts": "3", "maxDelay": "2s"},
	}
	ctx := context.Background()
	c := must(client.New(ctx, client.Config{}))
	connection, err := client.Execute(ctx, c, acquire, func(context.Context) (string, error) { return "connection 7", nil })
	fmt.Println(connection, err)
	// Output: connection 7 <nil>
}

// The code tells the policy that another attempt may succeed.
func ExampleError() {
	err := &client.Error{Code: "POOL_EXHAUSTED", Message: "20 connections are in use", RetryAfter: time.Second}
	fmt.Println(err)
	// Output: 20 connections are in use
}

// A refused payment stays refused.
func ExampleNotRetryable() {
	ctx := context.Background()
	c := must(client.New(ctx, client.Config{}))
	refused := errors.New("the card was refused")
	_, err := client.Execute(ctx, c, &client.Call{Service: "billing", Operation: "charge"}, func(context.Context) (int, error) {
		return 0, client.NotRetryable(refused)
	})
	fmt.Println(errors.Is(err, client.ErrNotRetryable), errors.Is(err, refused))
	// Output: true true
}

// The next attempt is made no sooner than the target asks for.
func ExampleRetryAfter() {
	ctx := context.Background()
	c := must(client.New(ctx, client.Config{Policies: quickPolicies()}))
	start := time.Now()
	_, err := client.Execute(ctx, c, &client.Call{Service: "billing", Operation: "charge"}, func(ctx context.Context) (int, error) {
		if client.AttemptFrom(ctx) == 1 {
			return 0, client.RetryAfter(errors.New("busy"), 50*time.Millisecond)
		}
		return 42, nil
	})
	fmt.Println(err, time.Since(start) >= 50*time.Millisecond)
	// Output: <nil> true
}

// A request to a NATS micro service is retried according to its reply.
func ExampleErrorFromReply() {
	ask := func(nc *nats.Conn) func(context.Context) ([]byte, error) {
		return func(ctx context.Context) ([]byte, error) {
			reply, err := nc.RequestWithContext(ctx, "billing.charge", nil)
			if err == nil {
				err = client.ErrorFromReply(reply)
			}
			if err != nil {
				return nil, err
			}
			return reply.Data, nil
		}
	}
	_ = ask // a function to give to Execute

	err := client.ErrorFromReply(&nats.Msg{Header: nats.Header{"Nats-Service-Error-Code": {"503"}, "Nats-Service-Error": {"busy"}}})
	var failure *client.Error
	fmt.Println(errors.As(err, &failure), failure.Code, failure.Message)
	// Output: true 503 busy
}

// A request to an HTTP server is retried according to its response.
func ExampleErrorFromResponse() {
	err := client.ErrorFromResponse(&http.Response{StatusCode: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"30"}}})
	var failure *client.Error
	fmt.Println(errors.As(err, &failure), failure.Code, failure.RetryAfter.Round(time.Second))
	// Output: true 429 30s
}

// A panic ends the call but not the process.
func ExamplePanicError() {
	ctx := context.Background()
	c := must(client.New(ctx, client.Config{}))
	_, err := client.Execute(ctx, c, &client.Call{Service: "analytics", Operation: "collect"}, func(context.Context) (int, error) {
		var series []int
		return series[7], nil
	})
	var panicked *client.PanicError
	fmt.Println(errors.As(err, &panicked), panicked, len(panicked.Stack) > 0)
	// Output: true panic: runtime error: index out of range [7] with length 0 true
}

// After five failures in a row the breaker of session_manager:execute_action opens.
func ExampleClient_Breakers() {
	ctx := context.Background()
	c := must(client.New(ctx, client.Config{}))
	executeAction := &client.Call{Service: "session_manager", Operation: "execute_action"}
	for range 5 {
		_, _ = client.Execute(ctx, c, executeAction, func(context.Context) (int, error) { return 0, &client.Error{Code: "503"} }, client.WithMaxAttempts(1))
	}
	_, err := client.Execute(ctx, c, executeAction, func(context.Context) (int, error) { return 42, nil })
	fmt.Println(errors.Is(err, client.ErrBreakerOpen))

	circuits, err := c.Breakers(ctx)
	for _, circuit := range circuits {
		fmt.Println(circuit.ServiceKey, circuit.State, circuit.TotalFailures, err)
	}
	// Output:
	// true
	// session_manager:execute_action OPEN 5 <nil>
}

// The health that Execute measured in this process.
func ExampleClient_LocalHealth() {
	ctx := context.Background()
	c := must(client.New(ctx, client.Config{Policies: quickPolicies()}))
	_, err := client.Execute(ctx, c, &client.Call{Service: "billing", Operation: "charge"}, func(ctx context.Context) (int, error) {
		if client.AttemptFrom(ctx) == 1 {
			return 0, &client.Error{Code: "503"}
		}
		return 42, nil
	})
	if err != nil {
		fmt.Println(err)
	}
	for _, m := range c.LocalHealth() {
		fmt.Printf("%s: success rate %.1f of %d attempts\n", m.ServiceType, *m.SuccessRate, m.Samples)
	}
	// Output: billing: success rate 0.5 of 2 attempts
}
