package terminal

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/rebound-mq/rebound/internal/wording"
)

// flushRows is how many rows are written at once, so that a long table begins to
// appear before it ends.
const flushRows = 200

// Table writes rows in aligned columns.
type Table struct {
	w    *tabwriter.Writer
	rows int
}

// NewTable begins a table with a row of headings; none makes it a plain list.
func NewTable(w io.Writer, headings ...string) *Table {
	t := &Table{w: tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	if len(headings) > 0 {
		cells := make([]any, len(headings))
		for i, h := range headings {
			cells[i] = h
		}
		t.Row(cells...)
	}
	return t
}

// Row writes a row.
func (t *Table) Row(cells ...any) {
	for i, c := range cells {
		if i > 0 {
			fmt.Fprint(t.w, "\t")
		}
		fmt.Fprint(t.w, cell(c))
	}
	fmt.Fprintln(t.w)
	if t.rows++; t.rows%flushRows == 0 {
		_ = t.Flush()
	}
}

// Flush writes the buffered rows.
func (t *Table) Flush() error { return t.w.Flush() }

// cell formats a value for a column.
func cell(v any) string {
	switch v := v.(type) {
	case time.Time:
		return wording.Moment(v)
	case string:
		if v == "" {
			return "-"
		}
		return Printable(v)
	}
	return fmt.Sprint(v)
}
