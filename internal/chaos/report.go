//go:build linux

package chaos

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rebound-mq/rebound/internal/chaos/proof"
)

// Report is the result of a history.
type Report struct {
	Record     *proof.Record
	Violations []proof.Violation
	Took       time.Duration
	// Logs has the log lines about each operation named by a violation.
	Logs map[string][]string
	// Kept is the directory with the kept logs, empty if they were not kept.
	Kept string
}

// shownOf is how many operations per class of violation are printed in full.
const shownOf = 3

// Print prints the violations, with the stories of some operations.
func (r *Report) Print(w io.Writer) {
	shown := make(map[proof.Class]int)
	for _, v := range r.Violations {
		if shown[v.Class]++; shown[v.Class] > shownOf {
			continue
		}
		fmt.Fprintf(w, "%s: kind %s, seed %d, operation %s: %s\n", v.Class, r.Record.Kind, r.Record.Seed, cmp.Or(v.ID, "-"), v.Detail)
		if v.ID == "" {
			continue
		}
		for _, line := range append(r.Record.Story(v.ID), r.Logs[v.ID]...) {
			fmt.Fprintf(w, "    %s\n", line)
		}
	}
	for _, class := range proof.Classes {
		if n := shown[class]; n > shownOf {
			fmt.Fprintf(w, "%s: %d more of kind %s, seed %d\n", class, n-shownOf, r.Record.Kind, r.Record.Seed)
		}
	}
	if r.Kept != "" {
		fmt.Fprintf(w, "the record and the logs are in %s\n", r.Kept)
	}
}

const (
	// mentioned bounds the operations searched for in the logs, linesOf the lines kept for each.
	mentioned, linesOf = 50, 10
)

// mentions returns the log lines that name an operation of a violation.
func (h *history) mentions(violations []proof.Violation) map[string][]string {
	lines := make(map[string][]string)
	for _, v := range violations {
		if v.ID != "" && len(lines) < mentioned {
			lines[v.ID] = nil
		}
	}
	if len(lines) == 0 {
		return nil
	}
	for _, in := range h.instances {
		in.mentions(lines)
	}
	return lines
}

// mentions adds the lines of the instance's log that name one of the operations.
func (in *instance) mentions(lines map[string][]string) {
	f, err := os.Open(in.Log.Name())
	if err != nil {
		return
	}
	defer f.Close()
	scanner := bufio.NewScanner(f)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		for id := range lines {
			if strings.Contains(scanner.Text(), id) && len(lines[id]) < linesOf {
				lines[id] = append(lines[id], in.Name+": "+scanner.Text())
			}
		}
	}
}

// keep copies the logs and the record to config.Keep.
func (h *history) keep(r *Report) (string, error) {
	to := filepath.Join(h.config.Keep, fmt.Sprintf("%s-%d", h.kind.Name, h.seed))
	if err := os.MkdirAll(to, 0o700); err != nil {
		return "", err
	}
	text, err := json.MarshalIndent(r.Record, "", " ")
	if err == nil {
		err = os.WriteFile(filepath.Join(to, "record.json"), text, 0o600)
	}
	for _, p := range h.all {
		log, readErr := os.ReadFile(p.Log.Name())
		err = errors.Join(err, readErr, os.WriteFile(filepath.Join(to, p.Name+".log"), log, 0o600))
	}
	return to, err
}
