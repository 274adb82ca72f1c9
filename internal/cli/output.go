package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

const (
	asTable = "table"
	asJSON  = "json"
)

func outputVar(cmd *cobra.Command) *wordFlag {
	return wordVar(cmd, "output", asTable, "how to print", asTable, asJSON)
}

// writeJSON writes v as one line.
func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// flushRows is after how many rows a table is written out, so that a long one
// begins to appear before it ends.
const flushRows = 200

// table writes rows in aligned columns.
type table struct {
	w    *tabwriter.Writer
	rows int
}

// newTable begins a table with a row of headings; none makes it a plain list.
func newTable(w io.Writer, headings ...string) *table {
	t := &table{w: tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	if len(headings) > 0 {
		cells := make([]any, len(headings))
		for i, h := range headings {
			cells[i] = h
		}
		t.row(cells...)
	}
	return t
}

func (t *table) row(cells ...any) {
	for i, c := range cells {
		if i > 0 {
			fmt.Fprint(t.w, "\t")
		}
		fmt.Fprint(t.w, cell(c))
	}
	fmt.Fprintln(t.w)
	if t.rows++; t.rows%flushRows == 0 {
		_ = t.flush()
	}
}

func (t *table) flush() error { return t.w.Flush() }

// cell makes a value fit for a column.
func cell(v any) string {
	switch v := v.(type) {
	case time.Time:
		return moment(v)
	case string:
		if v == "" {
			return "-"
		}
		return printable(v)
	}
	return fmt.Sprint(v)
}

func moment(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04:05.000")
}

// printable keeps what others wrote from commanding the terminal or breaking a
// line.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n', r == '\t', r == '\r':
			return ' '
		case r < ' ', r >= 0x7f && r < 0xa0, r == '\u2028', r == '\u2029', r >= '\u202a' && r <= '\u202e', r >= '\u2066' && r <= '\u2069':
			return '\ufffd'
		}
		return r
	}, s)
}

// short writes a figure in milliseconds as a duration that is easy to read.
func short(ms float64) string {
	d := time.Duration(ms * float64(time.Millisecond))
	switch {
	case d >= time.Minute:
		return d.Round(time.Second).String()
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d >= time.Millisecond:
		return d.Round(100 * time.Microsecond).String()
	}
	return d.Round(time.Microsecond).String()
}

// many counts things in words: 1 dead letter, 2 dead letters.
func many(n int, thing string) string { return fmt.Sprintf("%d %s", n, plural(n, thing)) }

// plural returns what n of a thing are called.
func plural(n int, thing string) string {
	if n == 1 {
		return thing
	}
	return thing + "s"
}
