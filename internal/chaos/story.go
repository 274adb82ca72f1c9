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
	"slices"
	"strings"
	"time"
)

// moment is one line of a story.
type moment struct {
	at   time.Time
	text string
}

// Story returns everything that happened to one operation, and around it, in order.
func (r *Record) Story(id string) []string {
	var all []moment
	add := func(at time.Time, format string, args ...any) {
		all = append(all, moment{at, fmt.Sprintf(format, args...)})
	}
	for _, s := range r.Submissions {
		if s.ID != id {
			continue
		}
		add(s.At, "submitted as event %s of %s, doomed %t", s.EventID, s.Key, s.Doomed)
		if !s.Stored.IsZero() {
			add(s.Stored, "acknowledged")
		}
	}
	for _, s := range r.Scheduled {
		if s.Event.ID == id {
			add(s.At, "told: retryScheduled after attempt %d of run %d (%s), due %s", s.Event.Attempt, s.Event.Replay, s.Event.Error.Code, clock(s.Event.Due))
		}
	}
	for _, a := range r.Attempts {
		if a.ID != id {
			continue
		}
		answer := cmp.Or(a.Code, "success")
		if a.Silent {
			answer = "nothing"
		}
		add(a.At, "attempt %d of run %d, repeated %t, answered %s %s later %.6s", a.Number, a.Replay, a.Repeated, answer, a.End.Sub(a.At).Round(time.Millisecond), a.Token)
	}
	for _, o := range r.Outcomes {
		if o.Event.ID == id {
			add(o.At, "told: %s of run %d after %d attempts %s, message %d", o.Event.Outcome, o.Event.Replay, o.Event.Attempts, o.Event.Reason, o.Sequence)
		}
	}
	for _, d := range r.Dead {
		if d.ID == id {
			add(d.At, "dead letter of run %d, %s", d.Replay, d.Reason)
		}
	}
	for _, p := range r.Replays {
		if p.ID == id {
			add(p.At, "replay of run %d is stored", p.Run)
		}
	}
	for _, w := range r.Waiting {
		if w.ID == id {
			add(w.Since, "stands on %s, due %s", w.Subject, clock(w.Due))
		}
	}
	sortMoments(all)
	if len(all) > 0 {
		from, to := all[0].at.Add(-time.Second), all[len(all)-1].at.Add(10*time.Second)
		for _, f := range r.Faults {
			if f.At.After(from) && f.At.Before(to) {
				add(f.At, "-- %s", f.What)
			}
		}
		sortMoments(all)
	}
	lines := make([]string, len(all))
	for i, m := range all {
		lines[i] = clock(m.at) + "  " + m.text
	}
	return lines
}

func sortMoments(all []moment) {
	slices.SortStableFunc(all, func(a, b moment) int { return a.at.Compare(b.at) })
}

// shownOf is how many operations of each class of violation are told of in full.
const shownOf = 3

// Print writes what a history broke, with the stories of some operations.
func (r *Report) Print(w io.Writer) {
	shown := make(map[Class]int)
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
	for _, class := range Classes {
		if n := shown[class]; n > shownOf {
			fmt.Fprintf(w, "%s: %d more of kind %s, seed %d\n", class, n-shownOf, r.Record.Kind, r.Record.Seed)
		}
	}
	if r.Kept != "" {
		fmt.Fprintf(w, "the record and the logs are in %s\n", r.Kept)
	}
}

// mentions returns the lines of the logs that name an operation of a violation.
func (h *history) mentions(violations []Violation) map[string][]string {
	lines := make(map[string][]string)
	for _, v := range violations {
		if v.ID != "" && len(lines) < 50 {
			lines[v.ID] = nil
		}
	}
	if len(lines) == 0 {
		return nil
	}
	for _, in := range h.instances {
		f, err := os.Open(in.log.Name())
		if err != nil {
			continue
		}
		scanner := bufio.NewScanner(f)
		scanner.Buffer(nil, 1<<20)
		for scanner.Scan() {
			for id := range lines {
				if strings.Contains(scanner.Text(), id) && len(lines[id]) < 10 {
					lines[id] = append(lines[id], in.name+": "+scanner.Text())
				}
			}
		}
		_ = f.Close()
	}
	return lines
}

// keep copies the logs and the record out of the directory of the history.
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
		log, readErr := os.ReadFile(p.log.Name())
		err = errors.Join(err, readErr, os.WriteFile(filepath.Join(to, p.name+".log"), log, 0o600))
	}
	return to, err
}
