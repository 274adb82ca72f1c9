package cli

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/scheduler/policy"
	"github.com/rebound-mq/rebound/schemas"
)

func (a *app) policyExplain() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "explain",
		Short: "Explain how an operation is retried, and why",
		Long: `Prints the policy of an operation key by key, where each value was set, and how the delay
after each attempt is distributed when nothing is known of the target's health.`,
		Example: `  rebound policy explain --service session_manager --operation execute_action
  rebound policy explain --service billing --operation charge --account premium_1 --priority high --attempt 3
  rebound policy explain --service billing --operation charge --override maxattempts=2 --file policies.yaml`,
		Args: noArgs,
	}
	from := policiesVar(cmd)
	var q schemas.PolicyQuery
	priorities := make([]string, len(events.Priorities))
	for i, p := range events.Priorities {
		priorities[i] = p.String()
	}
	flags := cmd.Flags()
	flags.StringVar(&q.Service, "service", "", "the service")
	flags.StringVar(&q.Operation, "operation", "", "the operation type")
	flags.StringVar(&q.Account, "account", "", "the account")
	flags.StringVar(&q.Campaign, "campaign", "", "the campaign")
	flags.StringToStringVar(&q.Overrides, "override", nil, "an override of the operation's own, as maxattempts=2; may be given several times")
	priority := wordVar(cmd, "priority", "", "the operation's own priority", priorities...)
	attempt := flags.Int("attempt", 0, "only the delay after this attempt, from 1")
	output := outputVar(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		q.Priority = priority.value
		if *attempt < 0 {
			return usagef("attempt %d is less than 1", *attempt)
		}
		if _, err := q.Explain(policy.Builtin()); err != nil {
			return usageError{err}
		}
		set, err := from.set(a, cmd)
		if err != nil {
			return err
		}
		e, err := q.Explain(set)
		if err != nil {
			return usageError{err}
		}
		if *attempt > 0 {
			if *attempt >= e.Policy.MaxAttempts {
				return usagef("there is no delay after attempt %d: the policy allows %s", *attempt, many(e.Policy.MaxAttempts, "attempt"))
			}
			e.Delays = []policy.Delays{e.Policy.Delays(*attempt, e.Priority, policy.Signals{})}
		}
		if output.value == asJSON {
			return writeJSON(a.stdout, e)
		}
		return writeExplanation(a.stdout, e)
	}
	return cmd
}

func writeExplanation(w io.Writer, e policy.Explanation) error {
	t := newTable(w, "KEY", "VALUE", "SET IN", "NOTE")
	for _, v := range e.Values {
		t.row(v.Key, v.Text, v.Origin.String(), v.Note)
	}
	if err := t.flush(); err != nil {
		return err
	}
	if len(e.Delays) == 0 {
		_, err := fmt.Fprintln(w, "\nThere is no further attempt: the policy allows one, the one that failed.")
		return err
	}
	fmt.Fprintf(w, "\nDelays of an operation of priority %s:\n", e.Priority)
	t = newTable(w, "AFTER ATTEMPT", "LEAST", "MEDIAN", "P90", "P99", "MOST", "HOW")
	for _, d := range e.Delays {
		t.row(d.Attempt, delay(d.Min), delay(d.P50), delay(d.P90), delay(d.P99), delay(d.Max), how(d))
	}
	return t.flush()
}

func delay(d time.Duration) string { return short(events.InMilliseconds(d)) }

func how(d policy.Delays) string {
	if d.Simulated {
		return "simulated"
	}
	return "exact"
}
