// Package client gives a Go service access to Rebound, the retry service for NATS.
// [Client] is the access; [Execute] calls a function again until it succeeds, in this
// process, with or without NATS:
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
// [Execute] goes by the policies that the service goes by: the built-in ones or those of
// [Config.Policies], and with a connection those that were applied in the service. Backoff,
// classification, breakers and budgets are the same code. With a connection the same events
// tell of every decision and every end. [WithHandOver] lets an operation go on in the
// service when no attempt is left here, so that it outlives the process.
//
// # Errors
//
// Execute and the handlers of a [Worker] look for a code in an error and in all that it
// wraps, from the outermost to the innermost, and take the first that they find:
//
//   - [Error] names its code itself. [NotRetryable] and [RetryAfter] make one;
//     [ErrorFromReply] and [ErrorFromResponse] read one from a reply of a NATS micro
//     service and from a response of an HTTP server.
//   - An error with a method GRPCStatus, Code, ErrorCode, StatusCode or
//     HTTPStatusCode, as gRPC, Connect, Twirp and the AWS SDK have them.
//   - The errors of the NATS client and of JetStream, system errors, errors of
//     DNS, and every error whose Timeout method says so: a context's deadline, a
//     network's.
//   - Without a code, the message is searched for known words.
//
// [policy.Policy.Classify] says what each code leads to. A method RetryAfter that returns a
// duration counts wherever it stands.
//
// # Durably
//
// [Client.Submit], [Client.SubmitBatch] and [Client.SubmitAsync] hand operations that
// failed to the service, which brings them back to their target. A [Worker] is such a
// target: a NATS micro service whose handler returns an error. [Client.Outcomes] iterates
// over how operations ended, and [Client.DeadLetters] gives access to those that finally
// failed.
//
// [policy.Policy.Classify]: https://pkg.go.dev/github.com/rebound-mq/rebound/scheduler/policy#Policy.Classify
package client
