package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/internal/config"
	"github.com/rebound-mq/rebound/schemas"
)

func (a *app) breakerCommand() *cobra.Command {
	cmd := group("breaker", "List, show, trip, hold and reset circuit breakers",
		`A circuit breaker keeps a failing target from being tried. There is one for each key,
SERVICE:OPERATION, whose policy has enableCircuitBreaker, and all instances share it.
While it is not closed the due operations of the key are held in its lanes.`)
	cmd.AddCommand(a.breakerList(), a.breakerShow(), a.breakerTrip(), a.breakerHold(), a.breakerReset())
	return cmd
}

func (a *app) breakerList() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list [SERVICE]",
		Short: "List the circuit breakers, or those of a service",
		Long: `Lists the worst circuit breakers: those that are held, open and half-open, and of
those alike the ones that failed most. With --all it lists all in the order of their
keys. One that is closed and not used is forgotten after a while.`,
		Example: "  rebound breaker list\n  rebound breaker list billing --all --output json",
		Args:    atMostOneArg,
	}
	output := outputVar(cmd)
	all := cmd.Flags().Bool("all", false, "list all, in the order of their keys")
	limit := cmd.Flags().Int("limit", 0, "how many to list without --all, at most 1000 (default 100)")
	cmd.MarkFlagsMutuallyExclusive("all", "limit")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		query := schemas.BreakerQuery{Limit: *limit, ByKey: *all}
		if *all {
			query.Limit = listPage
		}
		if len(args) > 0 {
			if err := events.CheckName(args[0]); err != nil {
				return usagef("the name %s", err)
			}
			query.Service = args[0]
		}
		if err := query.Check(); err != nil {
			return usageError{err}
		}
		return a.connected(cmd, func(s *session) error {
			list, err := s.listBreakers(cmd, query)
			if err != nil {
				return err
			}
			a.tellCoordination(list.Coordination)
			if output.value == asJSON {
				for _, b := range list.Breakers {
					if err := writeJSON(a.stdout, b); err != nil {
						return err
					}
				}
				return nil
			}
			if err := writeBreakers(a.stdout, list.Breakers); err != nil {
				return err
			}
			total := list.Counts.Closed + list.Counts.NotClosed()
			if n := total - len(list.Breakers); n > 0 {
				a.say("the worst %d of %s: %d open, %d half-open, %d closed; --all lists all",
					len(list.Breakers), many(total, "breaker"), list.Counts.Open, list.Counts.HalfOpen, list.Counts.Closed)
				return nil
			}
			a.say("%s", many(len(list.Breakers), "breaker"))
			return nil
		})
	}
	return cmd
}

// listPage is how many breakers are asked for at once when all are listed.
const listPage = 500

// listBreakers asks for a list of breakers, one by keys to its end.
func (s *session) listBreakers(cmd *cobra.Command, query schemas.BreakerQuery) (list schemas.BreakerList, err error) {
	var breakers []schemas.Breaker
	for {
		list = schemas.BreakerList{}
		if err := s.send(cmd, "breaker.list", query, &list); err != nil {
			return list, err
		}
		breakers = append(breakers, list.Breakers...)
		if query.After = list.Next; list.Next == "" {
			list.Breakers = breakers
			return list, nil
		}
	}
}

func (a *app) breakerShow() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "show KEY",
		Short:   "Show a circuit breaker and how many operations are held",
		Example: "  rebound breaker show billing:charge",
		Args:    exactArgs(1),
	}
	output := outputVar(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := checkKey(args[0]); err != nil {
			return err
		}
		return a.connected(cmd, func(s *session) error {
			var shown schemas.BreakerShown
			if err := s.send(cmd, "breaker.show", schemas.BreakerShow{Key: args[0]}, &shown); err != nil {
				return err
			}
			a.tellCoordination(shown.Coordination)
			if output.value == asJSON {
				return writeJSON(a.stdout, shown)
			}
			t := newTable(a.stdout)
			for _, f := range breakerFigures(&shown.Breaker) {
				t.row(f.name, f.value)
			}
			t.row("held operations", shown.HeldOperations)
			t.row("shared in", shown.Coordination.Store)
			return t.flush()
		})
	}
	return cmd
}

func (a *app) breakerTrip() *cobra.Command {
	var during durationFlag
	cmd := a.breakerAction("trip", "tripped", func(act *schemas.BreakerAct) { act.ForMs = events.InMilliseconds(time.Duration(during)) })
	cmd.Short = "Open a circuit breaker for a while"
	cmd.Long = `Opens a circuit breaker. After the time it lets probes through, and closes when they
succeed.`
	cmd.Example = `  rebound breaker trip billing:charge
  rebound breaker trip billing:charge --for 10m --note "the database is being moved"`
	cmd.Flags().Var(&during, "for", "how long it stays open, at most 30d (default as its policy says)")
	return cmd
}

func (a *app) breakerHold() *cobra.Command {
	cmd := a.breakerAction("hold", "held open", nil)
	cmd.Short = "Open a circuit breaker until it is reset"
	cmd.Example = `  rebound breaker hold billing:charge --note "until the bank is back"`
	return cmd
}

func (a *app) breakerReset() *cobra.Command {
	cmd := a.breakerAction("reset", "closed", nil)
	cmd.Short = "Close a circuit breaker"
	cmd.Example = `  rebound breaker reset billing:charge`
	return cmd
}

// breakerAction is something that an operator does to a breaker.
func (a *app) breakerAction(verb, past string, complete func(*schemas.BreakerAct)) *cobra.Command {
	cmd := &cobra.Command{Use: verb + " KEY", Args: exactArgs(1)}
	output := outputVar(cmd)
	note := cmd.Flags().String("note", "", "what to tell who looks at it, at most 500 bytes")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := checkKey(args[0]); err != nil {
			return err
		}
		act := schemas.BreakerAct{Key: args[0], Note: *note}
		if complete != nil {
			complete(&act)
		}
		if err := act.Check(); err != nil {
			return usageError{err}
		}
		return a.connected(cmd, func(s *session) error {
			var acted schemas.BreakerActed
			if err := s.send(cmd, "breaker."+verb, act, &acted); err != nil {
				return err
			}
			if acted.ThisInstanceOnly {
				a.say("rebound: warning: only one instance knows, because the store of the breakers is out of reach")
			}
			if output.value == asJSON {
				return writeJSON(a.stdout, acted)
			}
			until := ""
			if !acted.NextAttemptTime.IsZero() {
				until = " until " + moment(acted.NextAttemptTime)
			}
			a.say("the breaker of %s is %s%s", args[0], past, until)
			return nil
		})
	}
	return cmd
}

// tellCoordination warns when what is shown is one instance's own.
func (a *app) tellCoordination(c schemas.Sharing) {
	if !c.Shared {
		a.say("rebound: warning: this is what one instance knows; the store of the breakers (%s) has been out of reach since %s", c.Store, moment(c.Since))
	}
}

// writeBreakers writes a table of breakers; nothing when there are none.
func writeBreakers(w io.Writer, breakers []schemas.Breaker) error {
	if len(breakers) == 0 {
		return nil
	}
	t := newTable(w, "BREAKER", "STATE", "SINCE", "CAUSE", "NEXT ATTEMPT", "FAILURES", "OF", "MEAN", "NOTE")
	for _, b := range breakers {
		t.row(b.ServiceKey, stateOf(&b), b.ChangedAt, string(b.Cause), b.NextAttemptTime, b.TotalFailures, b.TotalRequests, short(b.AverageResponseTime), b.Note)
	}
	return t.flush()
}

func stateOf(b *schemas.Breaker) string {
	if b.Held {
		return breaker.Open.String() + ", held"
	}
	return b.State.String()
}

// figure is one line of what is told of a breaker.
type figure struct {
	name  string
	value any
}

func breakerFigures(b *schemas.Breaker) []figure {
	return []figure{
		{"key", b.ServiceKey},
		{"state", stateOf(b)},
		{"since", b.ChangedAt},
		{"cause", string(b.Cause)},
		{"note", b.Note},
		{"changed by", b.ChangedBy},
		{"next attempt", b.NextAttemptTime},
		{"failures in a row", b.FailureCount},
		{"last failure", b.LastFailureTime},
		{"half-open attempts", b.HalfOpenAttempts},
		{"half-open successes", b.HalfOpenSuccesses},
		{"total requests", b.TotalRequests},
		{"total failures", b.TotalFailures},
		{"mean response time", short(b.AverageResponseTime)},
	}
}

func checkKey(key string) error {
	if _, _, err := events.SplitKey(key); err != nil {
		return usageError{err}
	}
	return nil
}

// send asks an endpoint with a request and decodes the answer.
func (s *session) send(cmd *cobra.Command, endpoint string, request, into any) error {
	m := nats.NewMsg(handlers.ServiceName + "." + endpoint)
	var err error
	if m.Data, err = json.Marshal(request); err != nil {
		return fmt.Errorf("encoding the request: %w", err)
	}
	err = s.request(cmd.Context(), m, into)
	if errors.Is(err, nats.ErrNoResponders) {
		return fmt.Errorf("no service answers at %s; `rebound serve` starts one", s.url())
	}
	return err
}

// durationFlag is a duration, with days.
type durationFlag time.Duration

// Set implements [pflag.Value].
func (d *durationFlag) Set(s string) error {
	v, err := config.ParseDuration(s)
	if err != nil {
		return err
	}
	*d = durationFlag(v)
	return nil
}

// String implements [pflag.Value].
func (d *durationFlag) String() string {
	if *d == 0 {
		return ""
	}
	return time.Duration(*d).String()
}

// Type implements [pflag.Value].
func (d *durationFlag) Type() string { return "duration" }
