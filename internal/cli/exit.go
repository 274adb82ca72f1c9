package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// The exit codes.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

// usageError says that a command was used in a wrong way.
type usageError struct{ error }

func (u usageError) Unwrap() error { return u.error }

func usagef(layout string, args ...any) error { return usageError{fmt.Errorf(layout, args...)} }

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

// interruptible returns a context that ends at the first signal to stop. Before
// it ends the signals have their usual effect again, so that a second one ends
// the process at once.
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

// Program is the program with all that it reads and writes.
type Program struct {
	Version string
	// Environ has the form of [os.Environ]; no command reads the process's own.
	Environ        []string
	Stdin          io.Reader
	Stdout, Stderr io.Writer
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
	case errors.As(err, new(usageError)):
		fmt.Fprintf(root.ErrOrStderr(), "rebound: %s; see %s --help\n", oneSentence(err), cmd.CommandPath())
		return exitUsage
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		err = errors.New("interrupted")
	}
	fmt.Fprintf(root.ErrOrStderr(), "rebound: %s\n", oneSentence(err))
	return exitFailure
}

// oneSentence joins the lines of several errors.
func oneSentence(err error) string {
	return strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}

// wrongUsage turns what cobra finds wrong with arguments into a [usageError].
func wrongUsage(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError{err}
		}
		return nil
	}
}

var (
	anyArgs = cobra.ArbitraryArgs
	noArgs  = exactArgs(0)
)

var atMostOneArg = wrongUsage(func(cmd *cobra.Command, args []string) error {
	if len(args) <= 1 {
		return nil
	}
	return fmt.Errorf("%s takes at most 1 argument, not %d", cmd.Name(), len(args))
})

func exactArgs(n int) cobra.PositionalArgs {
	return wrongUsage(func(cmd *cobra.Command, args []string) error {
		if len(args) == n {
			return nil
		}
		if n == 0 {
			return fmt.Errorf("%s takes no arguments, and %q is one", cmd.Name(), args[0])
		}
		return fmt.Errorf("%s takes %s, not %d", cmd.Name(), many(n, "argument"), len(args))
	})
}
