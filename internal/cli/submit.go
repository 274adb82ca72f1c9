package cli

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/rebound-mq/rebound/events"
)

func (a *app) submitCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "submit SERVICE OPERATION | submit -",
		Short: "Submit an operation that failed, or many as JSON lines",
		Long: `Submits an operation that failed and prints its id.

With - or --stdin-lines it reads JSON lines from standard input, each a CloudEvent in
its JSON form or an object with service, operation, data and any attributes:
  {"service":"billing","operation":"charge","id":"inv-1","errorCode":"503","data":{"amount":12}}
When some are refused it prints their line numbers and ends with exit code 1.`,
		Example: `  rebound submit billing charge --data '{"invoice":"inv-1"}' --error-code 503
  rebound submit billing charge --file invoice.json --id inv-1 --priority high --set maxAttempts=3
  rebound submit - < failed.jsonl`,
	}
	flags := submissionVars(cmd)
	lines := cmd.Flags().Bool("stdin-lines", false, "read JSON lines from standard input, as - does")
	output := outputVar(cmd)
	manyLines := func(args []string) bool { return *lines || len(args) == 1 && args[0] == "-" }
	cmd.Args = wrongUsage(func(cmd *cobra.Command, args []string) error {
		switch {
		case !manyLines(args):
			return exactArgs(2)(cmd, args)
		case len(args) > 1, len(args) == 1 && args[0] != "-":
			return fmt.Errorf("JSON lines name service and operation themselves")
		}
		return flags.mustBeUnset(cmd)
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if manyLines(args) {
			return a.connected(cmd, func(s *session) error { return a.submitLines(cmd.Context(), s, output.value) })
		}
		submission, err := a.submission(cmd, flags, args[0], args[1])
		if err != nil {
			return err
		}
		return a.connected(cmd, func(s *session) error { return a.submitOne(cmd, s, submission, output.value) })
	}
	return cmd
}

func (a *app) submitOne(cmd *cobra.Command, s *session, submission *submission, output string) error {
	answer, err := s.submitter().submit(cmd.Context(), submission)
	if err != nil {
		return err
	}
	if answer.stored {
		a.say("no service answers; the operation waits in stream %s until one runs", answer.Stream)
	}
	if answer.Duplicate {
		a.say("the same submission was stored before")
	}
	if output == asJSON {
		return writeJSON(a.stdout, answer.Submitted)
	}
	_, err = fmt.Fprintln(a.stdout, answer.ID)
	return err
}

// submission reads a submission from flags.
func (a *app) submission(cmd *cobra.Command, f *submissionFlags, service, operation string) (*submission, error) {
	for what, name := range map[string]string{"SERVICE": service, "OPERATION": operation} {
		if err := events.CheckName(name); err != nil {
			return nil, usagef("%s %w", what, err)
		}
	}
	data, err := a.payload(cmd, f)
	if err != nil {
		return nil, err
	}
	return f.submission(service, operation, data)
}

// payload reads the payload that the flags name.
func (a *app) payload(cmd *cobra.Command, f *submissionFlags) ([]byte, error) {
	switch {
	case f.file == "":
		return []byte(f.data), nil
	case cmd.Flags().Changed("data"):
		return nil, usagef("--data and --file are two payloads; give one")
	case f.file == "-":
		data, err := io.ReadAll(a.stdin)
		if err != nil {
			return nil, fmt.Errorf("reading standard input: %w", err)
		}
		return data, nil
	}
	data, err := os.ReadFile(f.file)
	if err != nil {
		return nil, fmt.Errorf("reading the payload: %w", err)
	}
	return data, nil
}
