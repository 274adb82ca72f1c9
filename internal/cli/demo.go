package cli

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/rebound-mq/rebound/internal/demo"
)

const demoTimeout = 2 * time.Minute

func (a *app) demoCommand() *cobra.Command {
	o := demo.Options{}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See failed operations being redelivered, all in this process",
		Long: `Runs a NATS server, the service and a target in this process, with a store that is
removed at the end. The target receives GitHub's webhooks and falls ill for a while:
it is down, answers 503, limits the rate with Retry-After, and answers late. What it
fails to take is submitted, and the demo shows what becomes of it.

The webhooks are the examples of the npm package @octokit/webhooks-examples, which npm
fetches once, or the files of --payloads. The run ends with exit code 1 if an
operation was lost, ended twice or arrived with other bytes than were sent.`,
		Example: `  rebound demo
  rebound demo --operations 500 --seed 7 --output json
  rebound demo --operations 0 --keep`,
		Args: noArgs,
	}
	flags := cmd.Flags()
	flags.IntVar(&o.Operations, "operations", 500, "how many operations to submit, 0 until interrupted")
	flags.DurationVar(&o.Timeout, "timeout", demoTimeout, "the longest that the run may take; without bound for --operations 0")
	flags.Uint64Var(&o.Seed, "seed", 1, "what the target's behaviour is drawn from; the same seed repeats it")
	flags.StringVar(&o.Payloads, "payloads", "", "directory of JSON files to send in place of the examples of the npm package")
	flags.BoolVar(&o.Keep, "keep", false, "keep the store and the log, and say how to look at them")
	output := outputVar(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		switch {
		case o.Operations < 0:
			return usagef("--operations %d is less than 0", o.Operations)
		case o.Timeout <= 0:
			return usagef("--timeout %s is not more than 0s", o.Timeout)
		case o.Operations == 0 && !cmd.Flags().Changed("timeout"):
			o.Timeout = 0
		}
		return a.demo(cmd, o, output.value)
	}
	return cmd
}

func (a *app) demo(cmd *cobra.Command, o demo.Options, output string) error {
	o.Environ, o.CacheDir, o.Version = a.environ, a.cacheDir(), semantic(a.version)
	o.Out = a.stdout
	if output == asJSON {
		o.Out = a.stderr
	}
	if isTerminal(o.Out) && a.variable("TERM") != "dumb" {
		o.Size, o.Color = terminalSize(o.Out), a.variable("NO_COLOR") == ""
	}
	summary, err := demo.Run(cmd.Context(), o)
	if summary.Submitted == 0 && err != nil {
		return err
	}
	print := summary.Print
	if output == asJSON {
		print = func(w io.Writer) error { return writeJSON(w, summary) }
	}
	if printErr := print(a.stdout); err == nil {
		err = printErr
	}
	return err
}

// terminalSize returns what asks for the size of the terminal that w is.
func terminalSize(w io.Writer) func() (width, height int) {
	f, ok := w.(*os.File)
	if !ok {
		return nil
	}
	return func() (int, int) {
		width, height, err := term.GetSize(int(f.Fd()))
		if err != nil || width <= 0 || height <= 0 {
			return 80, 24
		}
		return width, height
	}
}

// cacheDir returns where the user's caches are, empty when that is not known.
func (a *app) cacheDir() string {
	if dir := a.variable("XDG_CACHE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "rebound")
	}
	if dir := a.variable("LOCALAPPDATA"); dir != "" {
		return filepath.Join(dir, "rebound", "cache")
	}
	if home := a.variable("HOME"); home != "" {
		return filepath.Join(home, ".cache", "rebound")
	}
	return ""
}

// variable returns the value of an environment variable.
func (a *app) variable(name string) string {
	for _, e := range a.environ {
		if value, ok := strings.CutPrefix(e, name+"="); ok {
			return value
		}
	}
	return ""
}
