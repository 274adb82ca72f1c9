package events

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// MaxName is the longest service or operation type, in bytes.
const MaxName = 64

// Invalid stands for a service or an operation type that could not be read
// or may not stand in a subject. No valid name can be equal to it, because a
// valid name does not start with a dash.
const Invalid = "-invalid-"

// CheckName reports whether name may stand as a service or an operation type:
// one to [MaxName] ASCII letters, digits, dashes or underscores, the first of
// them no dash. Such a name is one token of a NATS subject.
func CheckName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("is empty")
	case len(name) > MaxName:
		return fmt.Errorf("has %d bytes, more than the %d allowed", len(name), MaxName)
	case name[0] == '-':
		return fmt.Errorf("%q starts with a dash", name)
	}
	for i := 0; i < len(name); i++ {
		c := name[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return fmt.Errorf("%q has the character %q; only letters, digits, dashes and underscores are allowed", clip(name, 80), c)
		}
	}
	return nil
}

// clip cuts s off after at most limit bytes and says so with an ellipsis. It cuts
// no character in two.
func clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit] + "…"
}

// oneLine makes s fit for the value of a header.
func oneLine(s string) string {
	return clip(strings.Join(strings.Fields(s), " "), 1000)
}

// valid replaces what is not UTF-8 in s, which JSON cannot hold.
func valid(s string) string { return strings.ToValidUTF8(s, "\ufffd") }

// lastTokens returns the last n tokens of a subject, nil when it has fewer.
func lastTokens(subject string, n int) []string {
	tokens := strings.Split(subject, ".")
	if len(tokens) < n {
		return nil
	}
	return tokens[len(tokens)-n:]
}
