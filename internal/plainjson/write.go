package plainjson

import (
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"
)

// appendText appends a string, quoted and escaped as encoding/json does it: control characters,
// U+2028 and U+2029, which JavaScript takes for the end of a line, and in HTML also <, > and &.
// What is not UTF-8 becomes U+FFFD.
func appendText(out []byte, s string, escape Escape) []byte {
	out = append(out, '"')
	plain := 0 // what precedes was appended
	for i := 0; i < len(s); {
		if isPlain(s[i], escape) {
			i++
			continue
		}
		r, size := rune(s[i]), 1
		if r >= utf8.RuneSelf {
			r, size = utf8.DecodeRuneInString(s[i:])
		}
		if r < utf8.RuneSelf || r == utf8.RuneError && size == 1 || r == '\u2028' || r == '\u2029' {
			out = append(out, s[plain:i]...)
			out = appendEscaped(out, r)
			plain = i + size
		}
		i += size
	}
	out = append(out, s[plain:]...)
	return append(out, '"')
}

// isPlain reports whether a byte stands for itself.
func isPlain(c byte, escape Escape) bool {
	switch {
	case c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf:
		return false
	case c == '<' || c == '>' || c == '&':
		return escape == Plain
	}
	return true
}

func appendEscaped(out []byte, r rune) []byte {
	switch r {
	case '"', '\\':
		return append(out, '\\', byte(r))
	case '\b':
		return append(out, '\\', 'b')
	case '\f':
		return append(out, '\\', 'f')
	case '\n':
		return append(out, '\\', 'n')
	case '\r':
		return append(out, '\\', 'r')
	case '\t':
		return append(out, '\\', 't')
	}
	const digits = "0123456789abcdef"
	return append(out, '\\', 'u', digits[r>>12&0xf], digits[r>>8&0xf], digits[r>>4&0xf], digits[r&0xf])
}

// appendFloat appends a number in the shortest form that reads back as the same. As in JavaScript,
// very small and very large numbers have an exponent, of one digit if that is enough.
func appendFloat(out []byte, v float64) ([]byte, error) {
	if math.IsInf(v, 0) || math.IsNaN(v) {
		return out, fmt.Errorf("%v is no number in JSON", v)
	}
	if abs := math.Abs(v); abs == 0 || abs >= 1e-6 && abs < 1e21 {
		return strconv.AppendFloat(out, v, 'f', -1, 64), nil
	}
	out = strconv.AppendFloat(out, v, 'e', -1, 64)
	if n := len(out); out[n-4] == 'e' && out[n-3] == '-' && out[n-2] == '0' {
		out = append(out[:n-2], out[n-1])
	}
	return out, nil
}
