package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"
	"github.com/spf13/cobra"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/internal/config"
	"github.com/rebound-mq/rebound/schemas"
)

func (a *app) reportCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "report SERVICE OPERATION success|failure|working",
		Short: "Report how an attempt goes that was given to a worker",
		Long: `Reports on an attempt of an operation whose delivery is publish. The message that the
worker has names all that is needed: Retry-Id, Retry-Attempt and Retry-Token.
success and failure end the attempt, working has its watchdog start anew.
A report that nobody waits for is refused, and the exit code is 1.`,
		Example: `  rebound report billing charge success --id 0f1e2d3c4b5a69788796a5b4c3d2e1f0 --attempt 2 --token WF5JPXVSTQH4RZB2N7L3KDYEMA
  rebound report billing charge failure --id … --attempt 2 --token … --error-code 503 --retry-after 30s`,
		Args:      exactArgs(3),
		ValidArgs: []string{string(events.Succeeded), string(events.Failed), string(events.Working)},
	}
	var r events.Report
	var wait string
	flags := cmd.Flags()
	flags.StringVar(&r.ID, "id", "", "Retry-Id of the message")
	flags.IntVar(&r.Attempt, "attempt", 0, "Retry-Attempt of the message")
	flags.StringVar(&r.Token, "token", "", "Retry-Token of the message")
	flags.StringVar(&r.Code, "error-code", "", "code of the failure, such as 503 or RATE_LIMIT_EXCEEDED")
	flags.StringVar(&r.Error, "error-message", "", "message of the failure")
	flags.StringVar(&wait, "retry-after", "", "after a failure, not before then: a duration (30s)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		for what, name := range map[string]string{"SERVICE": args[0], "OPERATION": args[1]} {
			if err := events.CheckName(name); err != nil {
				return usagef("%s %w", what, err)
			}
		}
		r.Result = events.Result(args[2])
		if wait != "" {
			after, err := config.ParseDuration(wait)
			if err != nil {
				return usagef("--retry-after %q is no duration", wait)
			}
			r.RetryAfterMs = events.InMilliseconds(after)
		}
		return a.connected(cmd, func(s *session) error { return a.report(cmd.Context(), s, args[0], args[1], r) })
	}
	return cmd
}

// report makes a report, or stores it for a service when none answers.
func (a *app) report(ctx context.Context, s *session, service, operation string, r events.Report) error {
	m, err := wire.EncodeReport(s.subjects.Report(service, operation), r, wire.Envelope{Source: cliReportSource, ID: nuid.Next(), Time: time.Now()})
	if err != nil {
		return usageError{err}
	}
	request := *m
	request.Subject = handlers.ServiceName + ".report." + service + "." + operation
	var answer schemas.Reported
	switch err := s.request(ctx, &request, &answer); {
	case errors.Is(err, nats.ErrNoResponders):
		if _, err := s.js.PublishMsg(ctx, m); err != nil {
			return fmt.Errorf("storing the report: %w", err)
		}
		a.say("no service answers; the report waits in stream %s until one runs", s.streams.Intake())
		return nil
	case err != nil:
		return err
	}
	return nil
}

// cliReportSource is the CloudEvents source of what is reported.
const cliReportSource = "/rebound/report"
