package policy

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
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

// faultList gathers the faults of one file.
type faultList struct {
	file   string
	faults []*PolicyFault // at most maxFaults
	count  int
}

// maxFaults is how many faults of a file are told one by one. The rest is
// counted.
const maxFaults = 100

func (l *faultList) full() bool { return len(l.faults) >= maxFaults }

func (l *faultList) at(line, column int, key, problem, meant string) {
	l.count++
	if !l.full() {
		l.faults = append(l.faults, &PolicyFault{File: l.file, Line: line, Column: column, Key: key, Problem: problem, Meant: meant})
	}
}

// err returns the faults in the order of the file.
func (l *faultList) err() error {
	slices.SortStableFunc(l.faults, func(a, b *PolicyFault) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	errs := make([]error, 0, len(l.faults)+1)
	for _, f := range l.faults {
		errs = append(errs, f)
	}
	if more := l.count - len(l.faults); more > 0 {
		errs = append(errs, &PolicyFault{File: l.file, Problem: fmt.Sprintf("faults left out here: %d", more)})
	}
	return errors.Join(errs...)
}
