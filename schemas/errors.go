package schemas

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/rebound-mq/rebound/internal/spelling"
)

// UnknownError says that no schema has the name.
type UnknownError struct {
	// Name is what was asked for.
	Name string
	// Known are the names that [Get] takes.
	Known []string
	// Nearest is the known name that was probably meant, empty when none is near.
	Nearest string
}

// Error implements error.
func (e *UnknownError) Error() string {
	hint := ""
	if e.Nearest != "" {
		hint = fmt.Sprintf("; did you mean %s?", e.Nearest)
	}
	return fmt.Sprintf("no schema is named %q%s; there are %s", clip(e.Name, maxShown), hint, strings.Join(e.Known, ", "))
}

// InvalidError says why a document does not conform to a schema.
type InvalidError struct {
	// Schema is the name of the schema.
	Schema string
	// Issues has at least one element.
	Issues []Issue
}

// Issue is one thing that is wrong with a document.
type Issue struct {
	// Path is the JSON pointer of the value at fault, empty for the document
	// itself. For a missing property it is where the property should be.
	Path string
	// Problem says what is wrong with the value, to be read after the path.
	Problem string
}

// String returns path and problem on one line.
func (i Issue) String() string {
	if i.Path == "" {
		return "the document " + i.Problem
	}
	return i.Path + " " + i.Problem
}

// Bounds of what an error shows.
const (
	maxShown  = 80
	maxIssues = 8
)

// Error implements error. It is one line that names the first issues.
func (e *InvalidError) Error() string {
	var b strings.Builder
	b.WriteString("not a valid " + e.Schema + ": ")
	for n, issue := range e.Issues {
		if n == maxIssues {
			fmt.Fprintf(&b, "; and %d more", len(e.Issues)-n)
			break
		}
		if n > 0 {
			b.WriteString("; ")
		}
		b.WriteString(issue.String())
	}
	return b.String()
}

// unknown returns the error for a name that no schema has.
func unknown(name string) *UnknownError {
	all := append(Names(), asyncAPI)
	return &UnknownError{Name: name, Known: all, Nearest: nearest(name, all)}
}

// nearest returns the name that was probably meant: the shortest that contains
// what was asked for, else the one with the fewest edits if they are few.
func nearest(asked string, all []string) string {
	asked = strings.ToLower(strings.TrimSuffix(asked, suffix))
	if asked == "" || len(asked) > maxShown {
		return ""
	}
	found, best := "", 0
	for _, name := range all {
		if strings.Contains(strings.ToLower(name), asked) && (found == "" || len(name) < best) {
			found, best = name, len(name)
		}
	}
	if found != "" {
		return found
	}
	best = max(len(asked)/2, 1) + 1
	for _, name := range all {
		if d := spelling.Distance(asked, simple(name)); d < best {
			found, best = name, d
		}
		if d := spelling.Distance(asked, strings.ToLower(name)); d < best {
			found, best = name, d
		}
	}
	return found
}

// simple returns the part of a name that tells it from the others, in lower
// case: retrysuccess for rebound.retrySuccess.v1.
func simple(name string) string {
	return strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(name, "rebound."), ".v1"))
}

// clip makes s fit to be shown within a line: short, and without characters that
// do not print.
func clip(s string, limit int) string {
	if len(s) > limit {
		s = s[:limit] + "…"
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}
