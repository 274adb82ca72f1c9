package config

import "strings"

// Fault is one thing that is wrong with the configuration.
type Fault struct {
	// Source is where it came from: "file:line:column", the name of a
	// variable, or a flag with its dashes.
	Source string
	// Key is the setting, or the unknown key. It is empty when the fault is
	// about a file as a whole.
	Key string
	// Problem is a clause that says what is wrong and what would be right. It
	// holds no secret.
	Problem string
}

// String returns the fault as one line.
func (f Fault) String() string {
	if f.Key == "" || f.Source == "--"+f.Key || strings.HasPrefix(f.Source, variablePrefix) {
		return f.Source + ": " + f.Problem
	}
	return f.Source + ": " + f.Key + ": " + f.Problem
}

// Error is everything that is wrong with the configuration at once.
type Error struct{ Faults []Fault }

// Error returns one line for each fault.
func (e *Error) Error() string {
	lines := make([]string, len(e.Faults))
	for i, f := range e.Faults {
		lines[i] = f.String()
	}
	return strings.Join(lines, "\n")
}

// faults returns an error for those that were found, or nil.
func faults(found []Fault) error {
	if len(found) == 0 {
		return nil
	}
	return &Error{Faults: found}
}
