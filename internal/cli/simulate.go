package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/rebound-mq/rebound/internal/cli/command"
	"github.com/rebound-mq/rebound/internal/cli/flags"
	"github.com/rebound-mq/rebound/internal/cli/terminal"
	"github.com/rebound-mq/rebound/internal/simulator"
	"github.com/rebound-mq/rebound/internal/wording"
)

const (
	// everything stands for all scenarios or all strategies.
	everything = "all"
	// defaults is the scenario of what the default policy does in each situation.
	defaults = "defaults"
	// defaultsSeeds is with how many seeds each of them is played.
	defaultsSeeds = 10
)

type simulateOptions struct {
	*command.App
	scenario, strategy *flags.Word
	seed               uint64
	output             *flags.Output
}

func simulateCommand(a *command.App) *cobra.Command {
	o := simulateOptions{App: a}
	cmd := &cobra.Command{
		Use:   "simulate",
		Short: "Compare, in virtual time, how failed operations are brought back",
		Long: `Plays scenarios of failing targets in virtual time: Rebound with the breaker, gate and
governor of the service, and beside it the retry policies that other systems have by
default. Needs no server. The same seed gives the same figures. Rebound has the built-in
default policy; what other systems do without end is tried without end.

The scenario defaults is another: it plays what may befall a newcomer who configured
nothing, with ten seeds each, and says what must happen and what happened at worst. It fails
if they are not alike.

  GOODPUT   operations a second that succeeded while operations arrived
  WASTED    attempts that failed after the first one
  MOST      the most attempts that one operation took
  PEAK      the most requests in a second once the target was well, by its capacity
  DRAIN     how long until what waited then had ended; IDEAL is at full capacity
  P50, P99  how long after its first failure an operation succeeded`,
		Example: `  rebound simulate --scenario backlog
  rebound simulate --scenario defaults
  rebound simulate --scenario overload --strategy rebound --output json`,
		Args: command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	scenarios := []string{everything, defaults}
	for _, s := range simulator.Scenarios() {
		scenarios = append(scenarios, s.Name)
	}
	o.scenario = flags.WordVar(cmd, "scenario", everything, "what happens", scenarios...)
	o.strategy = flags.WordVar(cmd, "strategy", everything, "what brings operations back", append([]string{everything}, simulator.Strategies()...)...)
	cmd.Flags().Uint64Var(&o.seed, "seed", 1, "what chance begins with")
	o.output = flags.OutputVar(cmd)
	return cmd
}

func (o *simulateOptions) run(ctx context.Context) error {
	if o.scenario.Value == defaults {
		return o.judgeDefaults(ctx)
	}
	scenarios := slices.DeleteFunc(simulator.Scenarios(), func(s simulator.Scenario) bool {
		return o.scenario.Value != everything && o.scenario.Value != s.Name
	})
	for _, s := range scenarios {
		if err := o.play(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// judgeDefaults prints what the built-in default policy does in each situation. The error says
// how many of them it gets wrong.
func (o *simulateOptions) judgeDefaults(ctx context.Context) error {
	if o.strategy.Value != everything && o.strategy.Value != simulator.Rebound {
		return command.Usagef("--strategy %s has no defaults to judge: --scenario %s is about Rebound's", o.strategy.Value, defaults)
	}
	seeds := make([]uint64, defaultsSeeds)
	for i := range seeds {
		seeds[i] = o.seed + uint64(i)
	}
	findings, err := simulator.Defaults(ctx, seeds)
	if err != nil {
		return err
	}
	if o.output.JSON() {
		err = terminal.WriteJSONLines(o.Stdout, findings)
	} else {
		err = writeFindings(o.Stdout, findings)
	}
	if err != nil {
		return err
	}
	wrong := 0
	for _, f := range findings {
		if !f.OK {
			wrong++
		}
	}
	if wrong > 0 {
		return fmt.Errorf("%s not what must happen", wording.Many(wrong, "finding"))
	}
	return nil
}

// writeFindings writes what must happen and what happened side by side.
func writeFindings(w io.Writer, findings []simulator.Finding) error {
	t := terminal.NewTable(w, "OK", "SITUATION", "MUST HAPPEN", "HAPPENED")
	for _, f := range findings {
		verdict, situation := "no", f.Situation
		if f.OK {
			verdict = "yes"
		}
		for i := range max(len(f.Must), len(f.Happened)) {
			must, happened := " ", " "
			if i < len(f.Must) {
				must = f.Must[i]
			}
			if i < len(f.Happened) {
				happened = f.Happened[i]
			}
			t.Row(verdict, situation, must, happened)
			verdict, situation = " ", " "
		}
	}
	return t.Flush()
}

// play plays a scenario with each strategy.
func (o *simulateOptions) play(ctx context.Context, s simulator.Scenario) error {
	if !o.output.JSON() {
		o.Say("%s: %s", s.Name, s.About)
	}
	var results []simulator.Result
	for _, strategy := range o.strategies() {
		r, err := simulator.Run(ctx, s, strategy, o.seed)
		if err != nil {
			return err
		}
		if o.output.JSON() {
			if err := terminal.WriteJSON(o.Stdout, r); err != nil {
				return err
			}
		}
		results = append(results, r)
	}
	if o.output.JSON() {
		return nil
	}
	return writeSimulated(o.Stdout, results)
}

func (o *simulateOptions) strategies() []string {
	if o.strategy.Value == everything {
		return simulator.Strategies()
	}
	return []string{o.strategy.Value}
}

func writeSimulated(w io.Writer, results []simulator.Result) error {
	t := terminal.NewTable(w, "SCENARIO", "STRATEGY", "FAILED", "RECOVERED", "GIVEN UP", "LEFT", "GOODPUT", "WASTED", "MOST", "PEAK", "DRAIN", "IDEAL",
		"P50", "P99", "CRITICAL P99", "LOW P99")
	for _, r := range results {
		normal := r.Latency["normal"]
		t.Row(r.Scenario, r.Strategy, r.Operations, r.Succeeded, r.GivenUp, r.Left,
			decimal(r.Goodput, 1)+"/s", r.Wasted, r.MostAttempts, decimal(r.PeakLoad, 2), seconds(r.DrainMs), seconds(r.IdealMs),
			seconds(normal.P50Ms), seconds(normal.P99Ms), seconds(r.Latency["critical"].P99Ms), seconds(r.Latency["low"].P99Ms))
	}
	return t.Flush()
}

func decimal(v float64, digits int) string { return strconv.FormatFloat(v, 'f', digits, 64) }

// seconds writes a figure in milliseconds as seconds, or nothing for 0.
func seconds(ms float64) string {
	if ms == 0 {
		return ""
	}
	return time.Duration(ms * float64(time.Millisecond)).Round(100 * time.Millisecond).String()
}
