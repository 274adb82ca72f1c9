package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rebound-mq/rebound/internal/cli/command"
	"github.com/rebound-mq/rebound/internal/cli/flags"
	"github.com/rebound-mq/rebound/internal/cli/terminal"
	"github.com/rebound-mq/rebound/internal/session"
	"github.com/rebound-mq/rebound/schemas"
)

type statusOptions struct {
	*command.App
	output *flags.Output
}

func statusCommand(a *command.App) *cobra.Command {
	o := statusOptions{App: a}
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
		Args: command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.Connected(cmd, o.run) },
	}
	o.output = flags.OutputVar(cmd)
	return cmd
}

// statusWithHealth is the status as JSON.
type statusWithHealth struct {
	schemas.Status
	// Health is what each instance sees.
	Health []schemas.Health `json:"health"`
}

func (o *statusOptions) run(ctx context.Context, s *session.Session) error {
	var status schemas.Status
	if err := s.Ask(ctx, "status", nil, &status); err != nil {
		return err
	}
	instances, err := session.Health(ctx, s)
	if err != nil {
		return err
	}
	if o.output.JSON() {
		return terminal.WriteJSON(o.Stdout, statusWithHealth{status, instances})
	}
	if err := writeStatus(o.Stdout, &status); err != nil {
		return err
	}
	warnOfProblems(o.App, instances)
	warnUnshared(o.App, status.Coordination)
	return writeStatusTables(o.Stdout, &status, instances)
}

// writeStatusTables writes the instances, and the worst breakers, gates and services.
func writeStatusTables(w io.Writer, status *schemas.Status, instances []schemas.Health) error {
	if err := writeInstances(w, &status.RetryCoordination); err != nil {
		return err
	}
	if err := writeStatusPauses(w, status.Pauses); err != nil {
		return err
	}
	if len(status.Breakers) > 0 {
		fmt.Fprintln(w)
	}
	if err := writeWorstBreakers(w, status); err != nil {
		return err
	}
	if err := writeGates(w, status, schemas.AllHeld(instances)); err != nil {
		return err
	}
	return writeHealth(w, instances)
}

// writeStatus writes how many operations wait where.
func writeStatus(w io.Writer, status *schemas.Status) error {
	t := terminal.NewTable(w)
	t.Row("instance", status.Instance)
	t.Row("version", status.Version)
	t.Row("running since", status.Started)
	t.Row("NATS server", status.Server)
	t.Row("policies", status.Policies.Name)
	t.Row("submitted", status.Submitted)
	if len(status.Waiting) > 0 {
		t.Row("submitted most by", submittedMost(status))
	}
	t.Row("parked", status.Parked)
	t.Row("due", status.Due)
	t.Row("in flight", status.InFlight)
	t.Row("held", status.Held)
	t.Row("dead letters", status.Dead)
	t.Row("reports waiting", status.Reports.Waiting)
	t.Row("reports refused", status.Reports.Refused)
	t.Row("events kept", status.Outcomes)
	t.Row("breakers shared in", status.Coordination.Store)
	coordinationRows(t, &status.RetryCoordination)
	return t.Flush()
}

// warnOfProblems writes the warnings of the instances to standard error.
func warnOfProblems(a *command.App, instances []schemas.Health) {
	for _, i := range instances {
		if i.NotReady != "" {
			a.Say("rebound: instance %s is not ready: %s", i.Instance, terminal.Printable(i.NotReady))
		}
		for _, w := range i.Warnings {
			a.Warn("instance %s: %s", i.Instance, terminal.Printable(w))
		}
	}
}

// submittedMost names the services with the most waiting submissions.
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
