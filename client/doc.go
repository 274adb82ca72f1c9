// Package client gives a Go service access to Rebound, the retry service for
// NATS. [Execute] runs a function with retries in this process; a [Client]
// submits operations that failed, serves operations that come back, follows
// outcomes, and replays dead letters.
//
// # In this process
//
// [Execute] needs no NATS at all:
//
//	c, err := client.New(ctx, client.Config{})
//
//	var createSession = &client.Call{Service: "session_manager", Operation: "create_session"}
//
//	session, err := client.Execute(ctx, c, createSession, func(ctx context.Context) (*Session, error) {
//		return sessions.Create(ctx, options)
//	})
//
// It goes by the policies that the service goes by: the built-in ones, those of
// [Config.Policies], and, with a connection, those that were applied in the
// service, which are followed. Backoff, classification, breakers and budgets are
// the same code. With a connection every decision and every end is told by the
// same events, too. [WithHandOver] lets the service go on with an operation for
// which no attempt is left here, so that it outlives the process.
//
// # Errors
//
// Execute and the handlers of a [Worker] read an error as follows, from the
// outermost of what it wraps to the innermost, and take the first code that they
// find:
//
//   - [Error] names its code itself. [NotRetryable] and [RetryAfter] make one, and
//     [ErrorFromReply] and [ErrorFromResponse] read one from a reply of a NATS micro
//     service and from a response of an HTTP server.
//   - An error with a method GRPCStatus, Code, ErrorCode, StatusCode or
//     HTTPStatusCode, as gRPC, Connect, Twirp and the AWS SDK have them.
//   - The errors of the NATS client and of JetStream, system errors, errors of
//     DNS, and whatever says Timeout: a context's deadline, a network's.
//   - Without a code, the message is looked through for words that are known.
//
// [policy.Policy.Classify] says what each code leads to. A method RetryAfter
// that returns a duration is heeded wherever it stands.
//
// # Durably
//
// [Client.Submit], [Client.SubmitBatch] and [Client.SubmitAsync] hand operations
// that failed to the service, which brings them back to their target. A [Worker]
// is such a target: a NATS micro service whose handler returns an error.
// [Client.Outcomes] iterates over how operations ended, and [Client.DeadLetters]
// gives access to those that finally failed.
package client
