package cli

import (
	"context"
	"io"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/rebound-mq/rebound/internal/cli/command"
	"github.com/rebound-mq/rebound/internal/cli/flags"
	"github.com/rebound-mq/rebound/internal/cli/terminal"
	"github.com/rebound-mq/rebound/internal/demo"
)

const demoTimeout = 2 * time.Minute

type demoOptions struct {
	*command.App
	demo   demo.Options
	output *flags.Output
}

func demoCommand(a *command.App) *cobra.Command {
	o := demoOptions{App: a}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See failed operations being redelivered, all in this process",
		Long: `Runs a NATS server, the service and a target in this process, with a store that is
removed at the end. The target receives GitHub's webhooks and falls ill: it is down,
then answers 503 until the breakers open, and once it is back what was held is let
out; then it limits the rate with Retry-After, is slow, and hangs. What it fails to
take is submitted, and the demo shows what becomes of it and what it waits for.

The webhooks are the examples of the npm package @octokit/webhooks-examples, which npm
fetches once, or the files of --payloads; without npm or a network they are made up.
The run ends with exit code 1 if an operation was lost, ended twice or arrived with
other bytes than were sent.`,
		Example: `  rebound demo
  rebound demo --operations 500 --seed 7 --output json
  rebound demo --operations 0 --keep`,
		Args: command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.complete(cmd.Flags().Changed("timeout")); err != nil {
				return err
			}
			return o.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.IntVar(&o.demo.Operations, "operations", 500, "how many operations to submit, 0 until interrupted")
	f.DurationVar(&o.demo.Timeout, "timeout", demoTimeout, "the longest that the run may take; without bound for --operations 0")
	f.Uint64Var(&o.demo.Seed, "seed", 1, "what the target's behaviour is drawn from; the same seed repeats it")
	f.StringVar(&o.demo.Payloads, "payloads", "", "directory of JSON files to send in place of the examples of the npm package")
	f.BoolVar(&o.demo.Keep, "keep", false, "keep the store and the log, and say how to look at them")
	o.output = flags.OutputVar(cmd)
	return cmd
}

func (o *demoOptions) complete(timeoutGiven bool) error {
	switch {
	case o.demo.Operations < 0:
		return command.Usagef("--operations %d is less than 0", o.demo.Operations)
	case o.demo.Timeout <= 0:
		return command.Usagef("--timeout %s is not more than 0s", o.demo.Timeout)
	case o.demo.Operations == 0 && !timeoutGiven:
		o.demo.Timeout = 0
	}
	o.demo.Environ, o.demo.CacheDir, o.demo.Version = o.Environ, cacheDir(o.App), o.SemanticVersion()
	if o.demo.Out = o.Stdout; o.output.JSON() {
		o.demo.Out = o.Stderr
	}
	if terminal.IsTerminal(o.demo.Out) && o.Variable("TERM") != "dumb" {
		o.demo.Size, o.demo.Color = terminal.Size(o.demo.Out), o.Variable("NO_COLOR") == ""
	}
	return nil
}

func (o *demoOptions) run(ctx context.Context) error {
	summary, err := demo.Run(ctx, o.demo)
	if summary.Submitted == 0 && err != nil {
		return err
	}
	print := summary.Print
	if o.output.JSON() {
		print = func(w io.Writer) error { return terminal.WriteJSON(w, summary) }
	}
	if printErr := print(o.Stdout); err == nil {
		err = printErr
	}
	return err
}

// cacheDir returns the user's cache directory, empty if it is not known.
func cacheDir(a *command.App) string {
	if dir := a.Variable("XDG_CACHE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "rebound")
	}
	if dir := a.Variable("LOCALAPPDATA"); dir != "" {
		return filepath.Join(dir, "rebound", "cache")
	}
	if home := a.Variable("HOME"); home != "" {
		return filepath.Join(home, ".cache", "rebound")
	}
	return ""
}
