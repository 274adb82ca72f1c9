// Package wording formats counts, lists, errors, times and durations for people, with functions
// such as [Many].
package wording

import (
	"fmt"
	"strings"
	"time"
)

// Many formats a count of things: 1 dead letter, 2 dead letters.
func Many(n int, thing string) string { return fmt.Sprintf("%d %s", n, Plural(n, thing)) }

// Plural returns thing in the form for n.
func Plural(n int, thing string) string {
	if n == 1 {
		return thing
	}
	return thing + "s"
}

// First joins words and counts those beyond the first few.
func First(most int, words []string) string {
	if len(words) <= most {
		return strings.Join(words, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(words[:most], ", "), len(words)-most)
}

// Sentence returns an error's text on one line, even of several joined errors.
func Sentence(err error) string { return OneLine(err.Error()) }

// OneLine joins the lines of a text.
func OneLine(text string) string {
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}

// Or returns text, or none if text is empty.
func Or(text, none string) string {
	if text == "" {
		return none
	}
	return text
}

// Moment formats a time in the local zone, and the zero time as a dash.
func Moment(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04:05.000")
}

// Short formats milliseconds as a short duration.
func Short(ms float64) string {
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
