package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

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
