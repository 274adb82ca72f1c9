package policy

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rebound-mq/rebound/events"
)

// Issue is one thing that is wrong with a policy file or an operation's
// overrides. Issues come joined; [Issues] takes them apart.
type Issue struct { //nolint:errname // it is one of several, not the error
	// File is the name that the file was parsed under, empty for overrides.
	File string
	// Line and Column are where it is, from 1; 0 is unknown.
	Line, Column int
	// Key is the path of the key, as session_manager.maxAttempts, or empty when
	// the issue concerns the file as a whole.
	Key string
	// Problem is what is wrong.
	Problem string
	// Hint is what to write instead, or empty.
	Hint string
}

// Error returns the issue as "file:line:column: key: problem; hint".
func (i *Issue) Error() string {
	var b strings.Builder
	if i.File != "" {
		b.WriteString(i.File + ":")
		if i.Line > 0 {
			fmt.Fprintf(&b, "%d:%d:", i.Line, i.Column)
		}
		b.WriteByte(' ')
	}
	if i.Key != "" {
		b.WriteString(i.Key + ": ")
	}
	b.WriteString(i.Problem)
	if i.Hint != "" {
		b.WriteString("; " + i.Hint)
	}
	return b.String()
}

// Issues returns the issues joined in err, an error of [Parse], [LoadFile] or
// [ParseOverrides], in the order of the file.
func Issues(err error) []*Issue {
	switch e := err.(type) { //nolint:errorlint // it unwraps by itself
	case *Issue:
		return []*Issue{e}
	case interface{ Unwrap() []error }:
		var issues []*Issue
		for _, one := range e.Unwrap() {
			issues = append(issues, Issues(one)...)
		}
		return issues
	case interface{ Unwrap() error }:
		return Issues(e.Unwrap())
	}
	return nil
}

// issueList gathers the issues of one file.
type issueList struct {
	file   string
	issues []*Issue // at most maxIssues
	count  int
}

// maxIssues is how many issues of a file are listed. The rest are counted.
const maxIssues = 100

func (l *issueList) full() bool { return len(l.issues) >= maxIssues }

func (l *issueList) reportAt(line, column int, key, problem, hint string) {
	l.count++
	if !l.full() {
		l.issues = append(l.issues, &Issue{File: l.file, Line: line, Column: column, Key: key, Problem: problem, Hint: hint})
	}
}

// err returns the issues in the order of the file.
func (l *issueList) err() error {
	slices.SortStableFunc(l.issues, func(a, b *Issue) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	errs := make([]error, 0, len(l.issues)+1)
	for _, issue := range l.issues {
		errs = append(errs, issue)
	}
	if more := l.count - len(l.issues); more > 0 {
		errs = append(errs, &Issue{File: l.file, Problem: fmt.Sprintf("faults left out here: %d", more)})
	}
	return errors.Join(errs...)
}

// issue says what is wrong with a value. Hint says what to write instead and
// may be empty.
type issue struct{ problem, hint string }

func readWhole(s string, least, most int) (int, *issue) {
	n, err := strconv.Atoi(s)
	if err == nil && n >= least && n <= most {
		return n, nil
	}
	f := &issue{problem: fmt.Sprintf("%q is no whole number of at least %d", short(s), least)}
	if most < maxCount {
		f.problem = fmt.Sprintf("%q is no whole number from %d to %d", short(s), least, most)
	} else if err == nil && n > most || err != nil && digits(s) {
		f.problem = fmt.Sprintf("%q is more than %d", short(s), most)
	}
	if err != nil {
		if x, err := strconv.ParseFloat(ungrouped(s), 64); err == nil && x == math.Trunc(x) && x >= float64(least) && x <= float64(most) {
			f.hint = didYouMean(strconv.Itoa(int(x)))
		}
	}
	return 0, f
}

// grouped matches digits with separators between them, as people write long numbers, and what
// ends them.
var grouped = regexp.MustCompile(`^(\d+(?:_\d+)+|\d{1,3}(?:[,' ]\d{3})+)(?:$|[^\d_,' ]|[,' ]\D)`)

// ungrouped returns a text without the separators of the number that it begins with, if there are
// any.
func ungrouped(s string) string {
	m := grouped.FindStringSubmatch(s)
	if m == nil {
		return s
	}
	return strings.NewReplacer("_", "", ",", "", "'", "", " ", "").Replace(m[1]) + s[len(m[1]):]
}

func readNumber(s string, least, most float64) (float64, *issue) {
	n, err := strconv.ParseFloat(s, 64)
	plain := ungrouped(s) // ParseFloat takes underscores, as nothing else here does
	if err == nil && n >= least && n <= most && plain == s {
		return n, nil
	}
	f := &issue{problem: fmt.Sprintf("%q is no number from %v to %v", short(s), least, most)}
	if n, err := strconv.ParseFloat(plain, 64); err == nil && plain != s && n >= least && n <= most {
		f.hint = didYouMean(plain)
		return 0, f
	}
	percent, err := strconv.ParseFloat(strings.TrimSuffix(s, "%"), 64)
	if err == nil && most == 1 && percent > 1 && percent <= 100 {
		f.hint = didYouMean(strconv.FormatFloat(percent/100, 'g', -1, 64))
	} else if dotted := strings.Replace(s, ",", ".", 1); dotted != s {
		if n, err := strconv.ParseFloat(dotted, 64); err == nil && n >= least && n <= most {
			f.hint = didYouMean(dotted)
		}
	}
	return 0, f
}

func readTruth(s string) (bool, *issue) {
	switch s {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	f := &issue{problem: fmt.Sprintf("%q is neither true nor false", short(s))}
	switch strings.ToLower(s) {
	case "yes", "on", "y", "1", "true", "enabled":
		f.hint = didYouMean("true")
	case "no", "off", "n", "0", "false", "disabled":
		f.hint = didYouMean("false")
	}
	return false, f
}

// readSpan reads a Go duration or a whole number of milliseconds, from least to
// maxDuration.
func readSpan(s string, least time.Duration) (time.Duration, *issue) {
	d, err := time.ParseDuration(s)
	if digits(s) {
		d, err = milliseconds(s), nil
	}
	if digits(strings.TrimPrefix(s, "-")) && s[0] == '-' {
		d, err = -1, nil
	}
	switch {
	case err != nil:
		return 0, spanIssue(s)
	case d < 0:
		return 0, &issue{fmt.Sprintf("%q is below 0", short(s)), ""}
	case d > maxDuration:
		return 0, &issue{fmt.Sprintf("%q is longer than a year", short(s)), ""}
	case d < least:
		return 0, &issue{fmt.Sprintf("%q is not longer than 0", short(s)), ""}
	}
	return d, nil
}

// milliseconds reads digits, clamped to a value above maxDuration.
func milliseconds(digits string) time.Duration {
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n > int64(maxDuration/time.Millisecond) {
		return math.MaxInt64
	}
	return time.Duration(n) * time.Millisecond
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// units maps the names that people use for units to their lengths.
var units = map[string]time.Duration{
	"ms": time.Millisecond, "msec": time.Millisecond, "msecs": time.Millisecond, "millisecond": time.Millisecond, "milliseconds": time.Millisecond, "millis": time.Millisecond,
	"s": time.Second, "sec": time.Second, "secs": time.Second, "second": time.Second, "seconds": time.Second,
	"m": time.Minute, "min": time.Minute, "mins": time.Minute, "minute": time.Minute, "minutes": time.Minute,
	"h": time.Hour, "hr": time.Hour, "hrs": time.Hour, "hour": time.Hour, "hours": time.Hour,
	"d": 24 * time.Hour, "day": 24 * time.Hour, "days": 24 * time.Hour, "w": 7 * 24 * time.Hour, "week": 7 * 24 * time.Hour, "weeks": 7 * 24 * time.Hour,
}

// spanIssue says what is wrong with a text that is not a duration.
func spanIssue(s string) *issue {
	number := ungrouped(s)
	if digits(number) && milliseconds(number) <= maxDuration {
		return &issue{fmt.Sprintf("%q is no whole number of milliseconds, nor a duration", short(s)), didYouMean(number)}
	}
	plain := strings.ToLower(strings.NewReplacer(",", ".", "_", "", " ", "").Replace(number))
	if d, err := time.ParseDuration(plain); err == nil && d >= 0 && d <= maxDuration {
		return &issue{fmt.Sprintf("%q is no duration", short(s)), didYouMean(spanText(d))}
	}
	end := strings.IndexFunc(plain, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
	amount, unit := plain, ""
	if end >= 0 {
		amount, unit = plain[:end], plain[end:]
	}
	x, err := strconv.ParseFloat(amount, 64)
	if err != nil {
		return &issue{fmt.Sprintf("%q is no duration", short(s)), "write milliseconds such as 1500, or a duration such as 1.5s or 2m"}
	}
	length, known := units[unit]
	switch ms := x * 1000; {
	case unit == "" && x*float64(time.Second) <= float64(maxDuration) && ms == math.Trunc(ms):
		return &issue{
			fmt.Sprintf("%q is no whole number of milliseconds and has no unit", short(s)),
			fmt.Sprintf("did you mean %d or %s?", int64(ms), spanText(time.Duration(x*float64(time.Second)))),
		}
	case known && x*float64(length) <= float64(maxDuration):
		return &issue{fmt.Sprintf("%q is no duration", short(s)), didYouMean(spanText(time.Duration(x * float64(length))))}
	case known:
		return &issue{fmt.Sprintf("%q is longer than a year", short(s)), ""}
	}
	return &issue{fmt.Sprintf("%q is no duration", short(s)), "write milliseconds such as 1500, or a duration such as 1.5s or 2m"}
}

// spanText returns d as policy files write it: without the zero units that
// [time.Duration.String] appends.
func spanText(d time.Duration) string {
	if d == 0 {
		return "0"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// short clips a value for an error.
func short(s string) string {
	if len(s) <= 40 {
		return s
	}
	return strings.ToValidUTF8(s[:40], "") + "…"
}

func didYouMean(word string) string {
	if word == "" {
		return ""
	}
	return "did you mean " + word + "?"
}

// readTarget reads the key target.
func readTarget(p *Policy, s string) *issue {
	filled := strings.NewReplacer("{service}", "service", "{operation}", "operation").Replace(s)
	if strings.ContainsAny(filled, "{}") {
		return &issue{fmt.Sprintf("%q has a placeholder that is neither {service} nor {operation}", short(s)), ""}
	}
	if err := (events.Subjects{}).CheckTarget(filled); err != nil {
		return &issue{err.Error(), ""}
	}
	p.Target = s
	return nil
}

// checkPattern returns what is wrong with a subject pattern of targets.
func checkPattern(pattern string) *issue {
	tokens := strings.Split(pattern, ".")
	for i, token := range tokens {
		switch {
		case token == "":
			return &issue{fmt.Sprintf("%q has an empty token", short(pattern)), ""}
		case token == ">" && i < len(tokens)-1:
			return &issue{fmt.Sprintf("%q has > before its end", short(pattern)), "* stands for one token, > for all that follow"}
		case token != "*" && token != ">" && strings.ContainsAny(token, "*>"):
			return &issue{fmt.Sprintf("%q has a wildcard within a token", short(pattern)), "* and > stand for whole tokens"}
		case token == "*" || token == ">":
			// A wildcard may stand for work, the only one of Rebound's own subjects
			// that may be a target.
			tokens[i] = "work"
		}
	}
	if err := (events.Subjects{}).CheckTarget(strings.Join(tokens, ".")); err != nil {
		return &issue{fmt.Sprintf("%q can match no target: %v", short(pattern), err), ""}
	}
	return nil
}
