package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/rebound-mq/rebound/internal/config"
)

// app is what every command works with.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	environ        []string
	version        string
}

// newRoot returns the command tree.
func newRoot(p Program) *cobra.Command {
	a := &app{stdin: p.Stdin, stdout: p.Stdout, stderr: p.Stderr, environ: p.Environ, version: p.Version}
	root := group("rebound", "Retries failed operations on NATS",
		"Rebound is the retry service for NATS: it takes in operations that failed, brings them\n"+
			"back at the right moment, and keeps what finally failed.")
	root.Version = p.Version
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetIn(p.Stdin)
	root.SetOut(p.Stdout)
	root.SetErr(p.Stderr)
	config.AddClientFlags(root.PersistentFlags())
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(
		a.serveCommand(), a.submitCommand(), a.reportCommand(), a.outcomesCommand(), a.statusCommand(), a.deadCommand(),
		a.policyCommand(), a.breakerCommand(), a.adoptCommand(), a.simulateCommand(),
		a.schemaCommand(), a.doctorCommand(), a.demoCommand(), a.versionCommand(),
	)
	return root
}

// group returns a command that only holds others.
func group(use, short, long string) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Long: long,
		Args: wrongUsage(func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			hint := ""
			if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
				hint = fmt.Sprintf("; did you mean %q?", near[0])
			}
			return fmt.Errorf("%s has no command %q%s", cmd.CommandPath(), args[0], hint)
		}),
		RunE:                       func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SuggestionsMinimumDistance: 2,
	}
}

// say tells the user something, beside the output.
func (a *app) say(layout string, args ...any) {
	fmt.Fprintf(a.stderr, layout+"\n", args...)
}
