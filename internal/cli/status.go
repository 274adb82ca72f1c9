package cli

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/scheduler"
	"github.com/rebound-mq/rebound/schemas"
)

func (a *app) statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how many operations wait where, and how instances and services are",
		Long: `Shows how many operations wait where, the instances with their load and the share
of the work that each should take, global backpressure, the circuit breakers that
are not closed, and the health of the services that attempts were made at or that
report their own. Of breakers, gates and services the worst are shown and the others
counted; ` + "`rebound breaker list`" + ` and the JSON form tell of more. Every instance measures its own attempts; the table of health
puts all instances together: attempts are added up, and of scores, percentiles and
trends the worst is shown. As JSON, each instance's view of health stands by itself.`,
		Args: noArgs,
	}
	output := outputVar(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return a.connected(cmd, func(s *session) error {
			var status schemas.Status
			err := s.ask(cmd.Context(), handlers.ServiceName+".status", &status)
			if errors.Is(err, nats.ErrNoResponders) {
				return fmt.Errorf("no service answers at %s; `rebound serve` starts one", s.url())
			}
			if err != nil {
				return err
			}
			instances, err := s.health(cmd.Context())
			if err != nil {
				return err
			}
			if output.value == asJSON {
				return writeJSON(a.stdout, statusWithHealth{status, instances})
			}
			t := newTable(a.stdout)
			t.row("instance", status.Instance)
			t.row("version", status.Version)
			t.row("running since", status.Started)
			t.row("NATS server", status.Server)
			t.row("policies", status.Policies.Name)
			t.row("submitted", status.Submitted)
			if len(status.Waiting) > 0 {
				t.row("submitted most by", submittedMost(&status))
			}
			t.row("parked", status.Parked)
			t.row("due", status.Due)
			t.row("in flight", status.InFlight)
			t.row("held", status.Held)
			t.row("dead letters", status.Dead)
			t.row("reports waiting", status.Reports.Waiting)
			t.row("reports refused", status.Reports.Refused)
			t.row("events kept", status.Outcomes)
			t.row("breakers shared in", status.Coordination.Store)
			coordinationRows(t, &status.RetryCoordination)
			if err := t.flush(); err != nil {
				return err
			}
			a.tellProblems(instances)
			a.tellCoordination(status.Coordination)
			if err := writeInstances(a.stdout, &status.RetryCoordination); err != nil {
				return err
			}
			if len(status.Breakers) > 0 {
				fmt.Fprintln(a.stdout)
			}
			if err := writeWorstBreakers(a.stdout, &status); err != nil {
				return err
			}
			if err := writeGates(a.stdout, &status); err != nil {
				return err
			}
			return writeHealth(a.stdout, instances)
		})
	}
	return cmd
}

// tellProblems says on standard error what is wrong with the instances.
func (a *app) tellProblems(instances []schemas.Health) {
	for _, i := range instances {
		if i.NotReady != "" {
			a.say("rebound: instance %s is not ready: %s", i.Instance, printable(i.NotReady))
		}
		for _, w := range i.Warnings {
			a.say("rebound: warning: instance %s: %s", i.Instance, printable(w))
		}
	}
}

// submittedMost tells which services have the most submissions waiting.
func submittedMost(s *schemas.Status) string {
	parts := make([]string, len(s.Waiting))
	for i, w := range s.Waiting {
		parts[i] = fmt.Sprintf("%s %d", w.Service, w.Submitted)
		if s.Limit > 0 && w.Submitted >= s.Limit {
			parts[i] += " (as many as may be)"
		}
	}
	return strings.Join(parts, ", ")
}

// statusWithHealth is the status as JSON.
type statusWithHealth struct {
	schemas.Status
	// Health is what each instance sees.
	Health []schemas.Health `json:"health"`
}

// shownWorst is how many rows the tables of a status have, so that it fits a page.
const shownWorst = 8

// writeWorstBreakers prints the worst breakers that are not closed, and how many
// others there are.
func writeWorstBreakers(w io.Writer, status *schemas.Status) error {
	shown := status.Breakers[:min(shownWorst, len(status.Breakers))]
	if err := writeBreakers(w, shown); err != nil {
		return err
	}
	counts := status.BreakerCounts
	others := map[string]int{"open": counts.Open, "half-open": counts.HalfOpen}
	for _, b := range shown {
		if b.State == breaker.HalfOpen {
			others["half-open"]--
		} else {
			others["open"]--
		}
	}
	return writeOthers(w, counts.NotClosed()-len(shown), "breaker", others)
}

// writeOthers prints how many are not shown in a table, by what they are.
func writeOthers(w io.Writer, n int, thing string, by map[string]int) error {
	if n <= 0 {
		return nil
	}
	var parts []string
	for _, what := range slices.Sorted(maps.Keys(by)) {
		if by[what] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", by[what], what))
		}
	}
	_, err := fmt.Fprintf(w, "… and %d more %s: %s\n", n, plural(n, thing), strings.Join(parts, ", "))
	return err
}

// writeGates prints the worst gates that limit something, and how many others there
// are.
func writeGates(w io.Writer, status *schemas.Status) error {
	gates := slices.DeleteFunc(slices.Clone(status.Gates), func(g scheduler.KeyReport) bool { return g.Cause == "" && !g.Governed })
	if len(gates) == 0 {
		return nil
	}
	gates = gates[:min(shownWorst, len(gates))]
	fmt.Fprintln(w)
	t := newTable(w, "GATE", "SHUT", "LIMITED BY", "IN FLIGHT", "GOVERNED AT")
	for _, g := range gates {
		rate := ""
		if g.Governed {
			rate = fmt.Sprintf("%.0f/s", g.Rate)
		}
		t.row(g.Key, g.Shut, string(g.Cause), g.InFlight, rate)
	}
	if err := t.flush(); err != nil {
		return err
	}
	n, others := -len(gates), make(map[string]int)
	for cause, limited := range status.GateCounts.Causes {
		n, others[string(cause)] = n+limited, limited
	}
	for _, g := range gates {
		others[string(g.Cause)]--
	}
	return writeOthers(w, n, "gate", others)
}
