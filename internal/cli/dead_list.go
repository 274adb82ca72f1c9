package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/rebound-mq/rebound/schemas"
)

func (a *app) deadList() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list [ID...]",
		Short: "List dead letters, the oldest first",
		Example: `  rebound dead list --service billing --since 2h
  rebound dead list --reason exhausted --output json | jq -r .id`,
		Args: anyArgs,
	}
	selected, output := letterVars(cmd), outputVar(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		filter, err := selected.selection(args)
		if err != nil {
			return err
		}
		return a.connected(cmd, func(s *session) error {
			letters, _, err := s.letters(cmd)
			if err != nil {
				return err
			}
			print, end := a.summaries(output.value)
			n := 0
			for d, err := range letters.List(cmd.Context(), filter) {
				if err != nil {
					return err
				}
				if err := print(schemas.SummariseDead(d)); err != nil {
					return err
				}
				n++
			}
			if err := end(); err != nil {
				return err
			}
			a.say("%s", many(n, "dead letter"))
			return cmd.Context().Err()
		})
	}
	return cmd
}

// summaries returns what prints one dead letter and what ends the printing.
func (a *app) summaries(output string) (print func(schemas.DeadSummary) error, end func() error) {
	if output == asJSON {
		return func(d schemas.DeadSummary) error { return writeJSON(a.stdout, d) }, func() error { return nil }
	}
	var t *table
	print = func(d schemas.DeadSummary) error {
		if t == nil {
			t = newTable(a.stdout, "ID", "SERVICE", "OPERATION", "REASON", "CODE", "ATTEMPTS", "REPLAYS", "DIED", "BYTES")
		}
		t.row(d.ID, d.Service, d.Operation, string(d.Reason), d.ErrorCode, d.Attempts, d.Replay, d.DiedAt, d.Bytes)
		return nil
	}
	end = func() error {
		if t == nil {
			return nil
		}
		if err := t.flush(); err != nil {
			return fmt.Errorf("writing: %w", err)
		}
		return nil
	}
	return print, end
}
