package cli

import (
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/rebound-mq/rebound/internal/simulator"
)

// everything stands for all scenarios or all strategies.
const everything = "all"

func (a *app) simulateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "simulate",
		Short: "Compare, in virtual time, how failed operations are brought back",
		Long: `Plays scenarios of failing targets in virtual time: Rebound with the breaker, gate and
governor of the service, and beside it the retry policies that other systems have by
default. Needs no server. The same seed gives the same figures.

  GOODPUT   operations a second that succeeded while operations arrived
  WASTED    attempts that failed after the first one
  MOST      the most attempts that one operation took
  PEAK      the most requests in a second once the target was well, by its capacity
  DRAIN     how long until what waited then had ended; IDEAL is at full capacity
  P50, P99  how long after its first failure an operation succeeded`,
		Example: `  rebound simulate --scenario backlog
  rebound simulate --scenario overload --strategy rebound --output json`,
		Args: noArgs,
	}
	var scenarios []string
	for _, s := range simulator.Scenarios() {
		scenarios = append(scenarios, s.Name)
	}
	scenario := wordVar(cmd, "scenario", everything, "what happens", append([]string{everything}, scenarios...)...)
	strategy := wordVar(cmd, "strategy", everything, "what brings operations back", append([]string{everything}, simulator.Strategies()...)...)
	seed := cmd.Flags().Uint64("seed", 1, "what chance begins with")
	output := outputVar(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		strategies := []string{strategy.value}
		if strategy.value == everything {
			strategies = simulator.Strategies()
		}
		for _, s := range simulator.Scenarios() {
			if scenario.value != everything && scenario.value != s.Name {
				continue
			}
			if output.value == asTable {
				a.say("%s: %s", s.Name, s.About)
			}
			var results []simulator.Result
			for _, name := range strategies {
				r, err := simulator.Run(cmd.Context(), s, name, *seed)
				if err != nil {
					return err
				}
				if output.value == asJSON {
					if err := writeJSON(a.stdout, r); err != nil {
						return err
					}
				}
				results = append(results, r)
			}
			if output.value == asTable {
				if err := writeSimulated(a.stdout, results); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return cmd
}

func writeSimulated(w io.Writer, results []simulator.Result) error {
	t := newTable(w, "SCENARIO", "STRATEGY", "FAILED", "RECOVERED", "GIVEN UP", "LEFT", "GOODPUT", "WASTED", "MOST", "PEAK", "DRAIN", "IDEAL",
		"P50", "P99", "CRITICAL P99", "LOW P99")
	for _, r := range results {
		normal := r.Latency["normal"]
		t.row(r.Scenario, r.Strategy, r.Operations, r.Succeeded, r.GivenUp, r.Left,
			decimal(r.Goodput, 1)+"/s", r.Wasted, r.MostAttempts, decimal(r.PeakLoad, 2), seconds(r.DrainMs), seconds(r.IdealMs),
			seconds(normal.P50Ms), seconds(normal.P99Ms), seconds(r.Latency["critical"].P99Ms), seconds(r.Latency["low"].P99Ms))
	}
	return t.flush()
}

func decimal(v float64, digits int) string { return strconv.FormatFloat(v, 'f', digits, 64) }

// seconds writes a figure in milliseconds as seconds, or nothing for 0.
func seconds(ms float64) string {
	if ms == 0 {
		return ""
	}
	return time.Duration(ms * float64(time.Millisecond)).Round(100 * time.Millisecond).String()
}
