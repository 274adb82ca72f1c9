package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/rebound-mq/rebound/internal/cli/command"
	"github.com/rebound-mq/rebound/internal/cli/flags"
	"github.com/rebound-mq/rebound/internal/cli/terminal"
	"github.com/rebound-mq/rebound/internal/config"
	"github.com/rebound-mq/rebound/internal/doctor"
	"github.com/rebound-mq/rebound/internal/wording"
)

type doctorOptions struct {
	*command.App
	output *flags.Output
}

func doctorCommand(a *command.App) *cobra.Command {
	o := doctorOptions{App: a}
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Print the settings in force and check that the service can run with them",
		Long: `Prints every setting with its value and where that came from, and checks the NATS
server, streams, permissions, clock and durability. It changes nothing. Run it with
the settings of the service. The exit code is 1 when a check fails.`,
		Args: command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.Configure(cmd)
			if err != nil {
				return err
			}
			return o.run(cmd.Context(), c)
		},
	}
	config.AddServerFlags(cmd.Flags())
	o.output = flags.OutputVar(cmd)
	return cmd
}

func (o *doctorOptions) run(ctx context.Context, c *config.Config) error {
	d := doctor.Diagnose(ctx, c, o.Logger(c))
	write := func() error { return writeDiagnosis(o.Stdout, d) }
	if o.output.JSON() {
		write = func() error { return terminal.WriteJSON(o.Stdout, d) }
	}
	if err := write(); err != nil {
		return err
	}
	if failed := d.Failed(); failed > 0 {
		return fmt.Errorf("%s failed", wording.Many(failed, "check"))
	}
	return nil
}

// writeDiagnosis writes the settings and the findings.
func writeDiagnosis(w io.Writer, d *doctor.Diagnosis) error {
	t := terminal.NewTable(w, "SETTING", "VALUE", "FROM")
	for _, s := range d.Settings {
		t.Row(s.Key, s.Value, s.Source)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	for _, f := range d.Findings {
		if _, err := fmt.Fprintf(w, "%-4s  %s: %s\n", f.Status, f.Check, terminal.Printable(f.Found)); err != nil {
			return err
		}
		if f.Advice != "" {
			fmt.Fprintf(w, "      → %s\n", terminal.Printable(f.Advice))
		}
	}
	return nil
}
