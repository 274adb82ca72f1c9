package scheduler

import (
	"fmt"
	"strings"
)

// PolicyFault is one fault of a policy file or of an operation's overrides. Faults
// come joined; [Faults] takes them apart.
type PolicyFault struct { //nolint:errname // it is one fault of several, not the error
	// File is the name that the file was parsed under, empty for overrides.
	File string
	// Line and Column are where the fault is, from 1; 0 is unknown.
	Line, Column int
	// Key is the path of the key, as session_manager.maxAttempts, or empty when
	// the fault is the file's as a whole.
	Key string
	// Problem is what is wrong.
	Problem string
	// Meant is what is meant there instead, or empty.
	Meant string
}

// Error returns the fault as "file:line:column: key: problem; meant".
func (f *PolicyFault) Error() string {
	var b strings.Builder
	if f.File != "" {
		b.WriteString(f.File + ":")
		if f.Line > 0 {
			fmt.Fprintf(&b, "%d:%d:", f.Line, f.Column)
		}
		b.WriteByte(' ')
	}
	if f.Key != "" {
		b.WriteString(f.Key + ": ")
	}
	b.WriteString(f.Problem)
	if f.Meant != "" {
		b.WriteString("; " + f.Meant)
	}
	return b.String()
}

// Faults returns the faults that err, from [Parse], [LoadFile] or
// [ParseOverrides], is joined from, in the order of the file.
func Faults(err error) []*PolicyFault {
	switch e := err.(type) { //nolint:errorlint // it unwraps by itself
	case *PolicyFault:
		return []*PolicyFault{e}
	case interface{ Unwrap() []error }:
		var faults []*PolicyFault
		for _, one := range e.Unwrap() {
			faults = append(faults, Faults(one)...)
		}
		return faults
	case interface{ Unwrap() error }:
		return Faults(e.Unwrap())
	}
	return nil
}

// nearest returns the candidate that given is probably a misspelling of, or "".
func nearest(given string, candidates []string) string {
	if len(given) > 64 {
		return ""
	}
	best, least := "", len(given)/3+1
	for _, c := range candidates {
		if d := distance(strings.ToLower(given), strings.ToLower(c)); d < least {
			best, least = c, d
		}
	}
	return best
}

// distance returns the Levenshtein distance of a and b, in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
