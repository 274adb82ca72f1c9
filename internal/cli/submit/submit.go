// Package submit has the command that submits operations: [Command].
package submit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/rebound-mq/rebound/internal/cli/command"
	"github.com/rebound-mq/rebound/internal/cli/flags"
	"github.com/rebound-mq/rebound/internal/cli/terminal"
	"github.com/rebound-mq/rebound/internal/session"
)

// options say what to submit: one operation by flags, or many on standard input.
type options struct {
	*command.App
	flags      *submissionFlags
	stdinLines bool
	output     *flags.Output

	submission *submission
}

// Command returns the command submit.
func Command(a *command.App) *cobra.Command {
	o := options{App: a}
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
		Args: command.WrongUsage(func(cmd *cobra.Command, args []string) error { return o.checkArgs(cmd, args) }),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.manyLines(args) {
				return a.Connected(cmd, o.runLines)
			}
			if err := o.complete(args[0], args[1]); err != nil {
				return err
			}
			return a.Connected(cmd, o.run)
		},
	}
	o.flags = submissionVars(cmd)
	cmd.Flags().BoolVar(&o.stdinLines, "stdin-lines", false, "read JSON lines from standard input, as - does")
	o.output = flags.OutputVar(cmd)
	return cmd
}

func (o *options) manyLines(args []string) bool {
	return o.stdinLines || len(args) == 1 && args[0] == "-"
}

func (o *options) checkArgs(cmd *cobra.Command, args []string) error {
	switch {
	case !o.manyLines(args):
		return command.ExactArgs(2)(cmd, args)
	case len(args) > 1, len(args) == 1 && args[0] != "-":
		return errors.New("JSON lines name service and operation themselves")
	}
	return o.flags.mustBeUnset()
}

// complete builds the submission that the flags describe.
func (o *options) complete(service, operation string) error {
	if err := command.CheckNames(service, operation); err != nil {
		return err
	}
	data, err := o.payload()
	if err != nil {
		return err
	}
	o.submission, err = o.flags.submission(service, operation, data)
	return err
}

// run submits one operation.
func (o *options) run(ctx context.Context, s *session.Session) error {
	answer, err := newSubmitter(s).submit(ctx, o.submission)
	if err != nil {
		return err
	}
	if answer.stored {
		o.Say("%s; the operation waits in stream %s until one runs", session.NoService, answer.Stream)
	}
	if answer.Duplicate {
		o.Say("the same submission was stored before")
	}
	if o.output.JSON() {
		return terminal.WriteJSON(o.Stdout, answer.Submitted)
	}
	_, err = fmt.Fprintln(o.Stdout, answer.ID)
	return err
}

// payload reads the payload that the flags name.
func (o *options) payload() ([]byte, error) {
	switch {
	case o.flags.file == "":
		return []byte(o.flags.data), nil
	case o.flags.set("data"):
		return nil, command.Usagef("--data and --file are two payloads; give one")
	case o.flags.file == "-":
		data, err := io.ReadAll(o.Stdin)
		if err != nil {
			return nil, fmt.Errorf("reading standard input: %w", err)
		}
		return data, nil
	}
	data, err := os.ReadFile(o.flags.file)
	if err != nil {
		return nil, fmt.Errorf("reading the payload: %w", err)
	}
	return data, nil
}
