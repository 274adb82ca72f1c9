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
	"github.com/rebound-mq/rebound/internal/cli/command"
	"github.com/rebound-mq/rebound/internal/config"
	"github.com/rebound-mq/rebound/internal/session"
	"github.com/rebound-mq/rebound/schemas"
)

// reportOptions hold the result of an attempt and the operation.
type reportOptions struct {
	*command.App
	service, operation string
	retryAfter         string
	report             events.Report
}

func reportCommand(a *command.App) *cobra.Command {
	o := reportOptions{App: a}
	cmd := &cobra.Command{
		Use:   "report SERVICE OPERATION success|failure|working",
		Short: "Report how an attempt goes that was given to a worker",
		Long: `Reports on an attempt of an operation whose delivery is publish. The message that the
worker has names all that is needed: Retry-Id, Retry-Attempt and Retry-Token.
success and failure end the attempt, working has its watchdog start anew.
A report that nobody waits for is refused, and the exit code is 1.`,
		Example: `  rebound report billing charge success --id 0f1e2d3c4b5a69788796a5b4c3d2e1f0 --attempt 2 --retry-token WF5JPXVSTQH4RZB2N7L3KDYEMA
  rebound report billing charge failure --id … --attempt 2 --retry-token … --error-code 503 --retry-after 30s`,
		Args:      command.ExactArgs(3),
		ValidArgs: []string{string(events.Succeeded), string(events.Failed), string(events.Working)},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.complete(args); err != nil {
				return err
			}
			return a.Connected(cmd, o.run)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.report.ID, "id", "", "Retry-Id of the message")
	f.IntVar(&o.report.Attempt, "attempt", 0, "Retry-Attempt of the message")
	f.StringVar(&o.report.Token, "retry-token", "", "Retry-Token of the message")
	f.StringVar(&o.report.Code, "error-code", "", "code of the failure, such as 503 or RATE_LIMIT_EXCEEDED")
	f.StringVar(&o.report.Error, "error-message", "", "message of the failure")
	f.StringVar(&o.retryAfter, "retry-after", "", "after a failure, not before then: a duration (30s)")
	return cmd
}

func (o *reportOptions) complete(args []string) error {
	o.service, o.operation, o.report.Result = args[0], args[1], events.Result(args[2])
	if err := command.CheckNames(o.service, o.operation); err != nil {
		return err
	}
	if o.retryAfter == "" {
		return nil
	}
	after, err := config.ParseDuration(o.retryAfter)
	if err != nil {
		return command.Usagef("--retry-after %q is no duration", o.retryAfter)
	}
	o.report.RetryAfterMs = events.InMilliseconds(after)
	return nil
}

// run sends the report, or stores it for a service if none answers.
func (o *reportOptions) run(ctx context.Context, s *session.Session) error {
	m, err := wire.EncodeReport(s.Subjects.Report(o.service, o.operation), o.report, wire.Envelope{Source: reportSource, ID: nuid.Next(), Time: time.Now()})
	if err != nil {
		return command.Usage(err)
	}
	request := *m
	request.Subject = s.Subjects.Endpoint("report." + o.service + "." + o.operation)
	err = s.Request(ctx, &request, new(schemas.Reported))
	if !errors.Is(err, nats.ErrNoResponders) {
		return err
	}
	if _, err := s.JS.PublishMsg(ctx, m); err != nil {
		return fmt.Errorf("storing the report: %w", err)
	}
	o.Say("%s; the report waits in stream %s until one runs", session.NoService, s.Streams.Intake())
	return nil
}

// reportSource is the CloudEvents source of reports.
const reportSource = "/rebound/report"
