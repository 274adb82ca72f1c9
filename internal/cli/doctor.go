package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/rebound-mq/rebound/internal/config"
)

// The verdicts of a check.
const (
	checkOK   = "ok"
	checkWarn = "warn"
	checkFail = "fail"
)

// finding is the result of one check.
type finding struct {
	Status string `json:"status"`
	Check  string `json:"check"`
	// Found says what is the case, and Advice what to do about it.
	Found  string `json:"found"`
	Advice string `json:"advice,omitempty"`
}

// diagnosis is everything that the doctor says.
type diagnosis struct {
	OK       bool              `json:"ok"`
	File     string            `json:"file,omitempty"`
	Settings []diagnosisOption `json:"settings"`
	Findings []finding         `json:"findings"`
}

type diagnosisOption struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Source string `json:"source"`
}

func (d *diagnosis) add(status, check, found, advice string) {
	d.Findings = append(d.Findings, finding{status, check, found, advice})
}

func (a *app) doctorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Print the settings in force and check that the service can run with them",
		Long: `Prints every setting with its value and where that came from, and checks the NATS
server, streams, permissions, clock and durability. It changes nothing. Run it with
the settings of the service. The exit code is 1 when a check fails.`,
		Args: noArgs,
	}
	config.AddServerFlags(cmd.Flags())
	output := outputVar(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := a.configure(cmd)
		if err != nil {
			return err
		}
		d := a.diagnose(cmd.Context(), c)
		if err := a.printDiagnosis(d, output.value); err != nil {
			return err
		}
		failed := 0
		for _, f := range d.Findings {
			if f.Status == checkFail {
				failed++
			}
		}
		if failed > 0 {
			return fmt.Errorf("%s failed", many(failed, "check"))
		}
		return nil
	}
	return cmd
}

func (a *app) printDiagnosis(d *diagnosis, output string) error {
	if output == asJSON {
		return writeJSON(a.stdout, d)
	}
	t := newTable(a.stdout, "SETTING", "VALUE", "FROM")
	for _, s := range d.Settings {
		t.row(s.Key, s.Value, s.Source)
	}
	if err := t.flush(); err != nil {
		return err
	}
	fmt.Fprintln(a.stdout)
	for _, f := range d.Findings {
		if _, err := fmt.Fprintf(a.stdout, "%-4s  %s: %s\n", f.Status, f.Check, printable(f.Found)); err != nil {
			return err
		}
		if f.Advice != "" {
			fmt.Fprintf(a.stdout, "      → %s\n", printable(f.Advice))
		}
	}
	return nil
}
