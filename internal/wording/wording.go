// Package wording puts counts, lists, errors, moments and durations into the words
// in which people are told of them, such as [Many].
package wording

import (
	"fmt"
	"strings"
	"time"
)

// Many counts things: 1 dead letter, 2 dead letters.
func Many(n int, thing string) string { return fmt.Sprintf("%d %s", n, Plural(n, thing)) }

// Plural returns what n of a thing are called.
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

// Sentence returns an error's text on one line, also that of several joined errors.
func Sentence(err error) string { return OneLine(err.Error()) }

// OneLine joins the lines of a text.
func OneLine(text string) string {
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}

// Or returns text, or none when it is empty.
func Or(text, none string) string {
	if text == "" {
		return none
	}
	return text
}

// Moment writes a time in the local zone, and a dash for the zero time.
func Moment(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04:05.000")
}

// Short writes a figure in milliseconds as a duration that is easy to read.
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
