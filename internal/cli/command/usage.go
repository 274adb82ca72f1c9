package command

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/config"
	"github.com/rebound-mq/rebound/internal/wording"
)

// UsageError says that a command was used wrongly.
type UsageError struct{ error }

// Unwrap returns the error itself.
func (u UsageError) Unwrap() error { return u.error }

// Usage marks an error as one of usage; nil stays nil.
func Usage(err error) error {
	if err == nil {
		return nil
	}
	return UsageError{err}
}

// Usagef formats an error of usage.
func Usagef(layout string, args ...any) error { return UsageError{fmt.Errorf(layout, args...)} }

// UsageOf makes a [*config.Error] one of usage when all its issues are in flags.
func UsageOf(err error) error {
	var invalid *config.Error
	if !errors.As(err, &invalid) {
		return err
	}
	for _, issue := range invalid.Issues {
		if !strings.HasPrefix(issue.Source, "--") {
			return err
		}
	}
	return UsageError{err}
}

// CheckNames checks the arguments SERVICE and OPERATION.
func CheckNames(service, operation string) error {
	for _, arg := range []struct{ name, value string }{{"SERVICE", service}, {"OPERATION", operation}} {
		if err := events.CheckName(arg.value); err != nil {
			return Usagef("%s %w", arg.name, err)
		}
	}
	return nil
}

// WrongUsage turns cobra's errors about arguments into a [UsageError].
func WrongUsage(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return UsageError{err}
		}
		return nil
	}
}

// The arguments that commands take.
var (
	AnyArgs = cobra.ArbitraryArgs
	NoArgs  = ExactArgs(0)
)

// AtMostOneArg takes one argument or none.
var AtMostOneArg = WrongUsage(func(cmd *cobra.Command, args []string) error {
	if len(args) <= 1 {
		return nil
	}
	return fmt.Errorf("%s takes at most 1 argument, not %d", cmd.Name(), len(args))
})

// ExactArgs takes n arguments.
func ExactArgs(n int) cobra.PositionalArgs {
	return WrongUsage(func(cmd *cobra.Command, args []string) error {
		if len(args) == n {
			return nil
		}
		if n == 0 {
			return fmt.Errorf("%s takes no arguments, and %q is one", cmd.Name(), args[0])
		}
		return fmt.Errorf("%s takes %s, not %d", cmd.Name(), wording.Many(n, "argument"), len(args))
	})
}

// Group returns a command that only has subcommands.
func Group(use, short, long string) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Long: long,
		Args: WrongUsage(func(cmd *cobra.Command, args []string) error {
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
