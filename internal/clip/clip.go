// Package clip bounds the text that others wrote before it is stored or shown.
// [Text] is what most callers want.
package clip

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Text cuts s off after at most limit bytes, between two characters, and marks the
// cut with an ellipsis.
func Text(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit] + "…"
}

// maxLine is the most bytes that [Line] keeps.
const maxLine = 1000

// Line makes s fit for the value of a header: one line, its white space folded.
func Line(s string) string {
	return Text(strings.Join(strings.Fields(s), " "), maxLine)
}

// UTF8 replaces what is not UTF-8 in s, which JSON cannot hold.
func UTF8(s string) string { return strings.ToValidUTF8(s, "\ufffd") }

// IsLine reports whether s is at most limit bytes of printable text.
func IsLine(s string, limit int) bool {
	return len(s) <= limit && utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}
