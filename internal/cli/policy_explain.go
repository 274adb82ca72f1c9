package cli

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/cli/command"
	"github.com/rebound-mq/rebound/internal/cli/flags"
	"github.com/rebound-mq/rebound/internal/cli/terminal"
	"github.com/rebound-mq/rebound/internal/wording"
	"github.com/rebound-mq/rebound/scheduler/policy"
	"github.com/rebound-mq/rebound/schemas"
)

// policyExplainOptions describe an operation.
type policyExplainOptions struct {
	*command.App
	from     *policiesFrom
	query    schemas.PolicyQuery
	priority *flags.Word
	attempt  int
	output   *flags.Output
}

func policyExplainCommand(a *command.App) *cobra.Command {
	o := policyExplainOptions{App: a}
	cmd := &cobra.Command{
		Use:   "explain",
		Short: "Explain how an operation is retried, and why",
		Long: `Prints the policy of an operation key by key, where each value was set, and how the delay
after each attempt is distributed when nothing is known of the target's health.`,
		Example: `  rebound policy explain --service session_manager --operation execute_action
  rebound policy explain --service billing --operation charge --account premium_1 --priority high --attempt 3
  rebound policy explain --service billing --operation charge --override maxattempts=2 --file policies.yaml`,
		Args: command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.complete(); err != nil {
				return err
			}
			set, err := o.from.set(cmd)
			if err != nil {
				return err
			}
			return o.run(set)
		},
	}
	o.from = policiesVar(a, cmd)
	f := cmd.Flags()
	f.StringVar(&o.query.Service, "service", "", "the service")
	f.StringVar(&o.query.Operation, "operation", "", "the operation type")
	f.StringVar(&o.query.Account, "account", "", "the account")
	f.StringVar(&o.query.Campaign, "campaign", "", "the campaign")
	f.StringToStringVar(&o.query.Overrides, "override", nil, "an override of the operation's own, as maxattempts=2; may be given several times")
	o.priority = flags.PriorityVar(cmd, "the operation's own priority")
	f.IntVar(&o.attempt, "attempt", 0, "only the delay after this attempt, from 1")
	o.output = flags.OutputVar(cmd)
	return cmd
}

// complete checks the flags that do not depend on the policies.
func (o *policyExplainOptions) complete() error {
	o.query.Priority = o.priority.Value
	if o.attempt < 0 {
		return command.Usagef("attempt %d is less than 1", o.attempt)
	}
	_, err := o.query.Explain(policy.Builtin())
	return command.Usage(err)
}

func (o *policyExplainOptions) run(set *policy.Set) error {
	e, err := o.query.Explain(set)
	if err != nil {
		return command.Usage(err)
	}
	if o.attempt > 0 {
		if o.attempt >= e.Policy.MaxAttempts {
			return command.Usagef("there is no delay after attempt %d: the policy allows %s", o.attempt, wording.Many(e.Policy.MaxAttempts, "attempt"))
		}
		e.Delays = []policy.Delays{e.Policy.Delays(o.attempt, e.Priority, policy.Signals{})}
	}
	if o.output.JSON() {
		return terminal.WriteJSON(o.Stdout, e)
	}
	return writeExplanation(o.Stdout, e)
}

func writeExplanation(w io.Writer, e policy.Explanation) error {
	t := terminal.NewTable(w, "KEY", "VALUE", "SET IN", "NOTE")
	for _, v := range e.Values {
		t.Row(v.Key, v.Text, v.Origin.String(), v.Note)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if len(e.Delays) == 0 {
		_, err := fmt.Fprintln(w, "\nThere is no further attempt: the policy allows one, the one that failed.")
		return err
	}
	fmt.Fprintf(w, "\nDelays of an operation of priority %s:\n", e.Priority)
	t = terminal.NewTable(w, "AFTER ATTEMPT", "LEAST", "MEDIAN", "P90", "P99", "MOST", "HOW")
	for _, d := range e.Delays {
		t.Row(d.Attempt, delay(d.Min), delay(d.P50), delay(d.P90), delay(d.P99), delay(d.Max), how(d))
	}
	return t.Flush()
}

func delay(d time.Duration) string { return wording.Short(events.InMilliseconds(d)) }

func how(d policy.Delays) string {
	if d.Simulated {
		return "simulated"
	}
	return "exact"
}
