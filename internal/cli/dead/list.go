package dead

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/rebound-mq/rebound/internal/cli/command"
	"github.com/rebound-mq/rebound/internal/cli/flags"
	"github.com/rebound-mq/rebound/internal/cli/terminal"
	"github.com/rebound-mq/rebound/internal/session"
	"github.com/rebound-mq/rebound/internal/wording"
	"github.com/rebound-mq/rebound/schemas"
)

type listOptions struct {
	*command.App
	selection
	output *flags.Output
}

func listCommand(a *command.App) *cobra.Command {
	o := listOptions{App: a}
	cmd := &cobra.Command{
		Use:   "list [ID...]",
		Short: "List dead letters, the oldest first",
		Example: `  rebound dead list --service billing --since 2h
  rebound dead list --reason exhausted --output json | jq -r .id`,
		Args: command.AnyArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.complete(args); err != nil {
				return err
			}
			return a.Connected(cmd, o.run)
		},
	}
	o.vars(cmd)
	o.output = flags.OutputVar(cmd)
	return cmd
}

func (o *listOptions) run(ctx context.Context, s *session.Session) error {
	letters, _, err := openLetters(ctx, s)
	if err != nil {
		return err
	}
	list := o.list()
	n := 0
	for d, err := range letters.List(ctx, o.filter) {
		if err != nil {
			return err
		}
		if err := list.print(schemas.SummariseDead(d)); err != nil {
			return err
		}
		n++
	}
	if err := list.end(); err != nil {
		return fmt.Errorf("writing: %w", err)
	}
	o.Say("%s", wording.Many(n, "dead letter"))
	return ctx.Err()
}

// list prints dead letters: each in turn, and the rest at the end.
type list struct {
	print func(schemas.DeadSummary) error
	end   func() error
}

func (o *listOptions) list() list {
	if o.output.JSON() {
		return list{
			print: func(d schemas.DeadSummary) error { return terminal.WriteJSON(o.Stdout, d) },
			end:   func() error { return nil },
		}
	}
	var t *terminal.Table
	return list{
		print: func(d schemas.DeadSummary) error {
			if t == nil {
				t = terminal.NewTable(o.Stdout, "ID", "SERVICE", "OPERATION", "REASON", "CODE", "ATTEMPTS", "REPLAYS", "DIED", "BYTES")
			}
			t.Row(d.ID, d.Service, d.Operation, string(d.Reason), d.ErrorCode, d.Attempts, d.Replay, d.DiedAt, d.Bytes)
			return nil
		},
		end: func() error {
			if t == nil {
				return nil
			}
			return t.Flush()
		},
	}
}
