package compare

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Document writes the report into dir for readers: a file named after the plan, such as compare.md,
// and the charts that it shows, whose names begin so. The command is how it was made.
func (r Report) Document(dir, command string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	charts, err := r.charts(dir)
	if err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# Rebound beside others\n\n")
	fmt.Fprintf(&b, "Written by `%s` on %s.\n\n", command, r.Began.UTC().Format("2 January 2006"))
	fmt.Fprintf(&b, "%s\n\n", strings.Join(machine(), "; "))
	fmt.Fprintf(&b, "%s\n", introduction)
	for _, chart := range charts {
		fmt.Fprintf(&b, "\n![%s](%s)\n", strings.TrimSuffix(chart, filepath.Ext(chart)), chart)
	}
	for _, t := range r.tables() {
		fmt.Fprintf(&b, "\n## %s\n\n", capitalised(t.title))
		writeMarkdown(&b, t.headings, t.rows)
	}
	r.describe(&b)
	return os.WriteFile(filepath.Join(dir, r.Plan.Name+".md"), []byte(b.String()), 0o600)
}

const introduction = `Submitter, target, service and server share the machine. An operation has failed once, comes back and succeeds, and its end is known. In
each round every contender is started anew, warmed up with a tenth of the load, measured and stopped, and each round begins with
another one. The tables show medians, then the value of every round and the load average before it. CPU time is that of the
processes for one operation; a figure marked "both" is of one process that is service and server. On a machine that is busy with
something else it grows, because fewer messages are handled at a time. The harness submits and is the target; where the system runs
the work itself, its service does both. "late" is the time from when an operation was to come back, its submission or its failure plus
its delay, until the target has it. Memory is resident, ten seconds after it became steady.`

// describe tells what each contender does, and which ones are absent.
func (r Report) describe(b *strings.Builder) {
	fmt.Fprintf(b, "\n## What each of them does\n\n")
	var rows [][]string
	for _, c := range r.Plan.Contenders {
		rows = append(rows, []string{c.Name, c.About.Version, c.About.Path, c.About.Settings, c.About.Keeps, c.About.Lacks})
	}
	writeMarkdown(b, []string{"contender", "versions", "one operation", "settings", "guarantees", "does not guarantee"}, rows)
	if len(r.Absent) == 0 {
		return
	}
	fmt.Fprintf(b, "\nNot measured, or not to the end:\n\n")
	for _, c := range r.Plan.Contenders {
		if reason, ok := r.Absent[c.Name]; ok {
			fmt.Fprintf(b, "- %s: %s\n", c.Name, cellText(reason))
		}
	}
}

func writeMarkdown(b *strings.Builder, headings []string, rows [][]string) {
	line := func(cells []string) {
		for _, c := range cells {
			b.WriteString("| " + cellText(c) + " ")
		}
		b.WriteString("|\n")
	}
	line(headings)
	b.WriteString(strings.Repeat("| --- ", len(headings)) + "|\n")
	for _, row := range rows {
		line(row)
	}
}

// cellText returns a text that does not end a cell of a table.
func cellText(s string) string {
	if s == "" {
		return "–"
	}
	return strings.NewReplacer("|", `\|`, "\n", " ").Replace(s)
}

func capitalised(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
