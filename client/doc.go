// Package client gives a Go service access to Rebound, the retry service for NATS. A [Client] is
// the entry point; [Execute] calls a function until it succeeds, in this process, with or without
// NATS:
//
//	ctx := context.Background()
//	c, err := client.New(ctx, client.Config{}) // Config{Conn: nc} follows the service's policies
//	if err != nil {
//		log.Fatal(err)
//	}
//	charge := &client.Call{Service: "billing", Operation: "charge"}
//	conn, err := client.Execute(ctx, c, charge, func(ctx context.Context) (net.Conn, error) {
//		return new(net.Dialer).DialContext(ctx, "tcp", "cards.example.com:443")
//	})
//	fmt.Println(conn, err)
//
// # In this process
//
// [Execute] applies the service's policies: the built-in ones or those of [Config.Policies] and,
// with a connection, those in force in the service. Backoff, classification, breakers and budgets
// are the same code. With a connection, breakers, limits, pauses and global backpressure are the
// service's own, and every decision and every end is published as the same event; a service that
// shares in Redis needs [Config.Stores], and [Config.Local] shares nothing. [WithHandOver] lets an
// operation continue in the service when no attempt is left here, so that it outlives the process.
//
// # Errors
//
// Execute and workers look for a code in an error and in everything that it wraps, from the
// outermost to the innermost error, and take the first that they find:
//
//   - [Error] names its code itself. [NotRetryable] and [RetryAfter] make one;
//     [ErrorFromReply] and [ErrorFromResponse] read one from the reply of a NATS micro
//     service and from the response of an HTTP server.
//   - An error with a method GRPCStatus, Code, ErrorCode, StatusCode or
//     HTTPStatusCode, as in gRPC, Connect, Twirp and the AWS SDK.
//   - The errors of the NATS client and of JetStream, system errors, DNS errors, and
//     every error whose Timeout method returns true, such as a context's deadline or a
//     network timeout.
//   - Without a code, the message is searched for known words.
//
// [policy.Policy.Classify] documents what each code leads to. A method RetryAfter that returns a
// duration is used wherever in the tree it stands.
//
// # Permissions
//
// A user with restricted permissions needs, besides its own subjects, to read and write the
// buckets RETRY_BREAKERS and RETRY_LEDGERS, to read RETRY_POLICIES and RETRY_PAUSES, to publish on
// retry.event.> and retry.outcome.>, and to subscribe to retry.instance.*. Execute does without
// what it may not use, and logs it.
//
// # Durably
//
// [Client.Submit], [Client.SubmitBatch] and [Client.SubmitAsync] hand failed operations to the
// service, which redelivers them to their target. A [Worker] is such a target: a NATS micro
// service whose handler returns an error. [Client.Outcomes] iterates over how operations ended,
// and [Client.DeadLetters] gives access to those that finally failed.
//
// [policy.Policy.Classify]: https://pkg.go.dev/github.com/rebound-mq/rebound/scheduler/policy#Policy.Classify
package client
