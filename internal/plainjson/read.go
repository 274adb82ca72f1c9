package plainjson

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// next takes a token if that is what comes next.
func (f *Fields) next(token string) bool {
	rest, ok := strings.CutPrefix(f.in, token)
	if ok {
		f.in = rest
	}
	return ok
}

// expect takes a token.
func (f *Fields) expect(token string) {
	if !f.next(token) {
		f.Refuse()
	}
}

// nextName takes the name of a field, with the comma before it, if that is what comes next.
func (f *Fields) nextName(name string) bool {
	at := 0
	if f.begun {
		at = len(",")
	}
	end := at + len(name) + len(`"":`)
	if len(f.in) < end || f.begun && f.in[0] != ',' || f.in[at] != '"' || f.in[at+1:end-2] != name || f.in[end-2:end] != `":` {
		return false
	}
	f.in, f.begun = f.in[end:], true
	return true
}

// nextText takes a string. encoding/json reads it if it has escapes or may not be UTF-8.
func (f *Fields) nextText() string {
	end, plain := endOfText(f.in)
	if end == 0 {
		f.Refuse()
		return ""
	}
	token := f.in[:end]
	f.in = f.in[end:]
	if plain {
		return token[1 : end-1]
	}
	text, err := unquote(token)
	f.check(err)
	return text
}

func unquote(token string) (text string, err error) {
	err = json.Unmarshal([]byte(token), &text)
	return text, err
}

// endOfText returns how long the string is that s begins with, with its quotes, 0 if there is none.
// plain is whether its bytes are those that it stands for.
func endOfText(s string) (end int, plain bool) {
	if s == "" || s[0] != '"' {
		return 0, false
	}
	escaped, ascii := false, true
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return i + 1, !escaped && (ascii || utf8.ValidString(s[:i]))
		case c < ' ':
			return 0, false
		case c == '\\':
			escaped = true
			i++
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	return 0, false
}

func (f *Fields) nextBool() bool {
	if f.next("true") {
		return true
	}
	f.expect("false")
	return false
}

// nextNumber takes a number without exponent, with a fraction if it may have one.
func (f *Fields) nextNumber(fraction bool) (number string) {
	i := 0
	if strings.HasPrefix(f.in, "-") {
		i++
	}
	whole := digits(f.in[i:])
	if whole == 0 || whole > 1 && f.in[i] == '0' {
		f.Refuse()
		return ""
	}
	i += whole
	if fraction && strings.HasPrefix(f.in[i:], ".") {
		n := digits(f.in[i+1:])
		if n == 0 {
			f.Refuse()
			return ""
		}
		i += 1 + n
	}
	number, f.in = f.in[:i], f.in[i:]
	return number
}

// digits returns how many digits s begins with.
func digits(s string) int {
	n := 0
	for n < len(s) && '0' <= s[n] && s[n] <= '9' {
		n++
	}
	return n
}

func (f *Fields) nextInt() int {
	n, err := strconv.Atoi(f.nextNumber(false))
	f.check(err)
	return n
}

func (f *Fields) nextUint() uint64 {
	n, err := strconv.ParseUint(f.nextNumber(false), 10, 64)
	f.check(err)
	return n
}

func (f *Fields) nextFloat() float64 {
	n, err := strconv.ParseFloat(f.nextNumber(true), 64)
	f.check(err)
	return n
}

// nextTime takes a time that ends in Z and has two digits for the hour and a point before the
// fraction, if there is one. [time.Parse] is more liberal than JSON in just this.
func (f *Fields) nextTime() time.Time {
	text := f.nextText()
	if len(text) < len("2006-01-02T15:04:05Z") || text[13] != ':' || text[19] != '.' && text[19] != 'Z' || text[len(text)-1] != 'Z' {
		f.Refuse()
		return time.Time{}
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	f.check(err)
	return at
}

// check refuses what could not be read.
func (f *Fields) check(err error) {
	if err != nil {
		f.Refuse()
	}
}
