package cli

import (
	"cmp"
	"context"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/cli/command"
	"github.com/rebound-mq/rebound/internal/cli/flags"
	"github.com/rebound-mq/rebound/internal/cli/terminal"
	"github.com/rebound-mq/rebound/internal/session"
	"github.com/rebound-mq/rebound/internal/wording"
	"github.com/rebound-mq/rebound/schemas"
)

func breakerCommand(a *command.App) *cobra.Command {
	cmd := command.Group("breaker", "List, show, trip, hold and reset circuit breakers",
		`A circuit breaker keeps a failing target from being tried. There is one for each key,
SERVICE:OPERATION, whose policy has enableCircuitBreaker, and all instances share it.
While it is not closed the due operations of the key are held in its lanes. An operator
may open one whatever the policy says.`)
	cmd.AddCommand(breakerListCommand(a), breakerShowCommand(a), breakerTripCommand(a), breakerHoldCommand(a), breakerResetCommand(a))
	return cmd
}

type breakerListOptions struct {
	*command.App
	all    bool
	query  schemas.BreakerQuery
	output *flags.Output
}

func breakerListCommand(a *command.App) *cobra.Command {
	o := breakerListOptions{App: a}
	cmd := &cobra.Command{
		Use:   "list [SERVICE]",
		Short: "List the circuit breakers, or those of a service",
		Long: `Lists the worst circuit breakers: those that are held, open and half-open, and of
those alike the ones that failed most. With --all it lists all in the order of their
keys. One that is closed and not used is forgotten after a while.`,
		Example: "  rebound breaker list\n  rebound breaker list billing --all --output json",
		Args:    command.AtMostOneArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.complete(args); err != nil {
				return err
			}
			return a.Connected(cmd, o.run)
		},
	}
	o.output = flags.OutputVar(cmd)
	cmd.Flags().BoolVar(&o.all, "all", false, "list all, in the order of their keys")
	cmd.Flags().IntVar(&o.query.Limit, "limit", 0, "how many to list without --all, at most 1000 (default 100)")
	cmd.MarkFlagsMutuallyExclusive("all", "limit")
	return cmd
}

// listPage is how many breakers are asked for at once when all are listed.
const listPage = 500

// complete builds the query from flags and arguments.
func (o *breakerListOptions) complete(args []string) error {
	if o.all {
		o.query.ByKey, o.query.Limit = true, listPage
	}
	if len(args) > 0 {
		if err := events.CheckName(args[0]); err != nil {
			return command.Usagef("the name %s", err)
		}
		o.query.Service = args[0]
	}
	return command.Usage(o.query.Check())
}

func (o *breakerListOptions) run(ctx context.Context, s *session.Session) error {
	list, err := o.list(ctx, s)
	if err != nil {
		return err
	}
	warnUnshared(o.App, list.Coordination)
	if o.output.JSON() {
		return terminal.WriteJSONLines(o.Stdout, list.Breakers)
	}
	if err := writeBreakers(o.Stdout, list.Breakers); err != nil {
		return err
	}
	total := list.Counts.Closed + list.Counts.NotClosed()
	if len(list.Breakers) < total {
		o.Say("the worst %d of %s: %d open, %d half-open, %d closed; --all lists all",
			len(list.Breakers), wording.Many(total, "breaker"), list.Counts.Open, list.Counts.HalfOpen, list.Counts.Closed)
		return nil
	}
	o.Say("%s", wording.Many(len(list.Breakers), "breaker"))
	return nil
}

// list requests a list of breakers; a list by keys is read page by page to its end.
func (o *breakerListOptions) list(ctx context.Context, s *session.Session) (list schemas.BreakerList, err error) {
	query := o.query
	var breakers []breaker.Summary
	for {
		list = schemas.BreakerList{}
		if err := s.Ask(ctx, "breaker.list", query, &list); err != nil {
			return list, err
		}
		breakers = append(breakers, list.Breakers...)
		if query.After = list.Next; list.Next == "" {
			list.Breakers = breakers
			return list, nil
		}
	}
}

type breakerShowOptions struct {
	*command.App
	key    string
	output *flags.Output
}

func breakerShowCommand(a *command.App) *cobra.Command {
	o := breakerShowOptions{App: a}
	cmd := &cobra.Command{
		Use:     "show KEY",
		Short:   "Show a circuit breaker and how many operations are held",
		Example: "  rebound breaker show billing:charge",
		Args:    command.ExactArgs(1), ValidArgsFunction: a.CompleteKeys(false),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.key = args[0]
			if err := checkKey(o.key); err != nil {
				return err
			}
			return a.Connected(cmd, o.run)
		},
	}
	o.output = flags.OutputVar(cmd)
	return cmd
}

func (o *breakerShowOptions) run(ctx context.Context, s *session.Session) error {
	var shown schemas.BreakerShown
	if err := s.Ask(ctx, "breaker.show", schemas.BreakerShow{Key: o.key}, &shown); err != nil {
		return err
	}
	warnUnshared(o.App, shown.Coordination)
	if o.output.JSON() {
		return terminal.WriteJSON(o.Stdout, shown)
	}
	t := terminal.NewTable(o.Stdout)
	writeBreakerRows(t, &shown.Summary)
	t.Row("held operations", shown.HeldOperations)
	t.Row("shared in", shown.Coordination.Store)
	return t.Flush()
}

// breakerActOptions say what an operator does to a breaker.
type breakerActOptions struct {
	*command.App
	// verb names the action, past the breaker's state after it.
	verb, past string
	act        schemas.BreakerAct
	yes        bool
	duration   flags.Duration
	output     *flags.Output
}

func breakerTripCommand(a *command.App) *cobra.Command {
	o := &breakerActOptions{App: a, verb: "trip", past: "tripped"}
	cmd := o.command("Open a circuit breaker for a while", `  rebound breaker trip billing:charge
  rebound breaker trip billing:charge --for 10m --note "the database is being moved"`)
	cmd.Long = `Opens a circuit breaker. After the time it lets probes through, and closes when they
succeed.`
	cmd.Flags().Var(&o.duration, "for", "how long it stays open, at most 30d (default as its policy says)")
	return cmd
}

func breakerHoldCommand(a *command.App) *cobra.Command {
	o := &breakerActOptions{App: a, verb: "hold", past: "held open"}
	return o.command("Open a circuit breaker until it is reset", `  rebound breaker hold billing:charge --note "until the bank is back"`)
}

func breakerResetCommand(a *command.App) *cobra.Command {
	o := &breakerActOptions{App: a, verb: "reset", past: "closed"}
	return o.command("Close a circuit breaker", `  rebound breaker reset billing:charge`)
}

func (o *breakerActOptions) command(short, example string) *cobra.Command {
	cmd := &cobra.Command{
		Use: o.verb + " KEY", Short: short, Example: example, Args: command.ExactArgs(1), ValidArgsFunction: o.CompleteKeys(false),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.complete(args[0]); err != nil {
				return err
			}
			return o.Connected(cmd, o.run)
		},
	}
	o.output = flags.OutputVar(cmd)
	operatorVars(cmd, &o.act.By, &o.act.Note)
	command.YesVar(cmd, &o.yes)
	return cmd
}

func (o *breakerActOptions) complete(key string) error {
	if err := checkKey(key); err != nil {
		return err
	}
	o.act.Key, o.act.ForMs = key, events.InMilliseconds(time.Duration(o.duration))
	return command.Usage(o.act.Check())
}

func (o *breakerActOptions) run(ctx context.Context, s *session.Session) error {
	if !o.yes {
		if err := o.CheckSeen(ctx, s, o.act.Key); err != nil {
			return err
		}
	}
	var acted schemas.BreakerActed
	if err := s.Ask(ctx, "breaker."+o.verb, o.act, &acted); err != nil {
		return err
	}
	if acted.ThisInstanceOnly {
		o.Warn("only one instance knows, because the store of the breakers is out of reach")
	}
	if o.output.JSON() {
		return terminal.WriteJSON(o.Stdout, acted)
	}
	until := ""
	if !acted.NextAttemptTime.IsZero() {
		until = " until " + wording.Moment(acted.NextAttemptTime)
	}
	o.Say("the breaker of %s is %s%s", o.act.Key, o.past, until)
	return nil
}

func checkKey(key string) error {
	_, _, err := events.SplitKey(key)
	return command.Usage(err)
}

// warnUnshared warns if what is shown comes from one instance alone.
func warnUnshared(a *command.App, c schemas.Sharing) {
	if !c.Shared {
		a.Warn("this is what one instance knows; the store of the breakers (%s) has been out of reach since %s", c.Store, wording.Moment(c.Since))
	}
}

// writeBreakers writes a table of breakers; nothing when there are none.
func writeBreakers(w io.Writer, breakers []breaker.Summary) error {
	if len(breakers) == 0 {
		return nil
	}
	t := terminal.NewTable(w, "BREAKER", "STATE", "SINCE", "CAUSE", "NEXT ATTEMPT", "FAILURES", "OF", "MEAN", "BY", "NOTE", "LAST ERROR")
	for _, b := range breakers {
		t.Row(b.ServiceKey, stateOf(&b), cmp.Or(b.OutageSince, b.ChangedAt), string(b.Cause), b.NextAttemptTime, b.TotalFailures, b.TotalRequests,
			wording.Short(b.AverageResponseTime), b.Operated.By, cmp.Or(b.Note, b.Operated.Note), wording.OneLine(b.LastError))
	}
	return t.Flush()
}

func stateOf(b *breaker.Summary) string {
	if b.Held {
		return breaker.Open.String() + ", held"
	}
	return b.State.String()
}

// writeBreakerRows writes everything that is known of a breaker, one fact a row.
func writeBreakerRows(t *terminal.Table, b *breaker.Summary) {
	t.Row("key", b.ServiceKey)
	t.Row("state", stateOf(b))
	t.Row("since", b.ChangedAt)
	t.Row("not closed since", b.OutageSince)
	t.Row("cause", string(b.Cause))
	t.Row("note", b.Note)
	t.Row("changed by", b.ChangedBy)
	if o := b.Operated; o.Action != "" {
		t.Row(string(o.Action)+" by", o.By)
		t.Row(string(o.Action)+" at", o.At)
		t.Row(string(o.Action)+" because", o.Note)
	}
	t.Row("next attempt", b.NextAttemptTime)
	t.Row("failures in a row", b.FailureCount)
	t.Row("last failure", b.LastFailureTime)
	t.Row("last error", wording.OneLine(b.LastError))
	t.Row("half-open attempts", b.HalfOpenAttempts)
	t.Row("half-open successes", b.HalfOpenSuccesses)
	t.Row("total requests", b.TotalRequests)
	t.Row("total failures", b.TotalFailures)
	t.Row("mean response time", wording.Short(b.AverageResponseTime))
}
