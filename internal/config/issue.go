package config

import "strings"

// Issue is one thing that is wrong with the configuration.
type Issue struct {
	// Source is where the value was set: "file:line:column", the name of a
	// variable, or a flag with its dashes.
	Source string
	// Key is the setting, or the unknown key. It is empty when the issue
	// concerns a file as a whole.
	Key string
	// Problem is a clause that says what is wrong and what would be right. It
	// holds no secret.
	Problem string
}

// String returns the issue as one line.
func (i Issue) String() string {
	if i.Key == "" || i.Source == "--"+i.Key || strings.HasPrefix(i.Source, variablePrefix) {
		return i.Source + ": " + i.Problem
	}
	return i.Source + ": " + i.Key + ": " + i.Problem
}

// Error is everything that is wrong with the configuration at once.
type Error struct{ Issues []Issue }

// Error returns one line for each issue.
func (e *Error) Error() string {
	lines := make([]string, len(e.Issues))
	for n, issue := range e.Issues {
		lines[n] = issue.String()
	}
	return strings.Join(lines, "\n")
}

// issues returns an [*Error] with what was found, or nil.
func issues(found []Issue) error {
	if len(found) == 0 {
		return nil
	}
	return &Error{Issues: found}
}
