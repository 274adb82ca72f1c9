// Package cli is the command line of Rebound: [Program] runs one command line and
// returns the exit code. A command reads its flags and the settings, makes one call
// into another package, and prints the result.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/rebound-mq/rebound/internal/cli/command"
	"github.com/rebound-mq/rebound/internal/cli/dead"
	"github.com/rebound-mq/rebound/internal/cli/serve"
	"github.com/rebound-mq/rebound/internal/cli/submit"
	"github.com/rebound-mq/rebound/internal/config"
	"github.com/rebound-mq/rebound/internal/wording"
)

// Program is the program with its inputs and outputs.
type Program struct {
	Version string
	// Environ has the form of [os.Environ]; no command reads the process's own.
	Environ        []string
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// The exit codes.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

// Main runs the command line of the process until it ends or is interrupted, and
// returns the exit code.
func Main(version string) int {
	ctx, stop := interruptible()
	defer stop()
	return Program{
		Version: version, Environ: os.Environ(),
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
	}.Run(ctx, os.Args[1:])
}

// interruptible returns a context that ends at the first signal to stop. By then the
// signals have their usual effect again, so that a second one ends the process at once.
func interruptible() (ctx context.Context, stop context.CancelFunc) {
	ctx, stop = context.WithCancel(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		select {
		case <-signals:
		case <-ctx.Done():
		}
		signal.Stop(signals)
		stop()
	}()
	return ctx, stop
}

// Run executes a command line and returns the exit code.
func (p Program) Run(ctx context.Context, args []string) int {
	return run(ctx, newRoot(p), args)
}

// run executes a command line and returns the exit code.
func run(ctx context.Context, root *cobra.Command, args []string) int {
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, new(command.UsageError)):
		fmt.Fprintf(root.ErrOrStderr(), "rebound: %s; see %s --help\n", wording.Sentence(err), cmd.CommandPath())
		return exitUsage
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		err = errors.New("interrupted")
	}
	fmt.Fprintf(root.ErrOrStderr(), "rebound: %s\n", wording.Sentence(err))
	return exitFailure
}

// newRoot returns the command tree.
func newRoot(p Program) *cobra.Command {
	a := command.App(p)
	root := command.Group("rebound", "Retries failed operations on NATS",
		"Rebound is the retry service for NATS: it takes in operations that failed, brings them\n"+
			"back at the right moment, and keeps what finally failed.")
	root.Version = p.Version
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetIn(p.Stdin)
	root.SetOut(p.Stdout)
	root.SetErr(p.Stderr)
	config.AddClientFlags(root.PersistentFlags())
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return command.Usage(err) })
	root.AddCommand(
		serve.Command(&a), submit.Command(&a), reportCommand(&a), outcomesCommand(&a), statusCommand(&a), dead.Command(&a),
		policyCommand(&a), pauseCommand(&a), resumeCommand(&a), breakerCommand(&a), adoptCommand(&a), simulateCommand(&a),
		schemaCommand(&a), doctorCommand(&a), demoCommand(&a), versionCommand(&a),
	)
	return root
}
