package plainjson

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Fields writes the fields of an object, or reads them, in the order in which its methods are
// called. The methods whose names begin with Optional do not write a zero value, as omitempty and
// omitzero do. A name is written as it is, so it must need no escapes.
//
// After the first error nothing is written any more, and after the first mismatch nothing is read.
// Fields is not safe for concurrent use.
type Fields struct {
	reading bool
	escape  Escape
	// out is what was written, and err the first error.
	out []byte
	err error
	// in is what is left to read. begun is whether a field of the object was read, so that a comma
	// has to come before the next one.
	in      string
	begun   bool
	refused bool
}

// Escape says whether text is written so that it may stand in HTML.
type Escape bool

// The values of Escape. [json.Marshal] writes with HTML.
const (
	Plain Escape = false
	HTML  Escape = true
)

// pool holds Fields that are not in use, which would otherwise be allocated for every object because
// they are handed to a function that only its caller knows.
var pool = sync.Pool{New: func() any { return new(Fields) }}

// maxKept is the capacity up to which a buffer is used again.
const maxKept = 16 << 10

// free gives f back, whose buffer nothing may refer to.
func (f *Fields) free() {
	if cap(f.out) > maxKept {
		f.out = nil
	}
	*f = Fields{out: f.out[:0]}
	pool.Put(f)
}

// Bytes returns the object whose fields are listed by a function. The error is that of a value which
// JSON cannot hold, such as a time after the year 9999.
func Bytes[T any](escape Escape, v *T, list func(*Fields, *T)) ([]byte, error) {
	f := write(escape, v, list)
	defer f.free()
	return bytes.Clone(f.out), f.err
}

// String does the same as [Bytes].
func String[T any](escape Escape, v *T, list func(*Fields, *T)) (string, error) {
	f := write(escape, v, list)
	defer f.free()
	return string(f.out), f.err
}

func write[T any](escape Escape, v *T, list func(*Fields, *T)) *Fields {
	f := pool.Get().(*Fields)
	f.escape = escape
	object(f, v, list)
	return f
}

// Read reads an object into v, which must be zero. ok is false if text is not spelt as [String]
// spells it, or holds a field that is never read; v is then undefined. The strings read share the
// memory of text.
func Read[T any](text string, v *T, list func(*Fields, *T)) (ok bool) {
	f := pool.Get().(*Fields)
	defer f.free()
	f.reading, f.in = true, text
	object(f, v, list)
	return f.in == "" && !f.refused
}

// Reading reports whether fields are read.
func (f *Fields) Reading() bool { return f.reading }

// Refuse makes [Read] fail.
func (f *Fields) Refuse() { f.in, f.refused = "", true }

// name begins a field. It returns false if there is nothing to read or write.
func (f *Fields) name(name string) bool {
	if f.reading {
		return f.nextName(name)
	}
	if f.err != nil {
		return false
	}
	if f.out[len(f.out)-1] != '{' {
		f.out = append(f.out, ',')
	}
	f.out = append(f.out, '"')
	f.out = append(f.out, name...)
	f.out = append(f.out, '"', ':')
	return true
}

// absent reports whether an optional field is left out.
func (f *Fields) absent(zero bool) bool { return zero && !f.reading }

// Text is a string.
func (f *Fields) Text(name string, v *string) {
	switch {
	case !f.name(name):
	case f.reading:
		*v = f.nextText()
	default:
		f.out = appendText(f.out, *v, f.escape)
	}
}

// OptionalText is a string, not written if it is empty.
func (f *Fields) OptionalText(name string, v *string) {
	if !f.absent(*v == "") {
		f.Text(name, v)
	}
}

// OptionalBool is a boolean, written only if it is true.
func (f *Fields) OptionalBool(name string, v *bool) {
	switch {
	case f.absent(!*v) || !f.name(name):
	case f.reading:
		*v = f.nextBool()
	default:
		f.out = append(f.out, "true"...)
	}
}

// Int is a whole number.
func (f *Fields) Int(name string, v *int) {
	switch {
	case !f.name(name):
	case f.reading:
		*v = f.nextInt()
	default:
		f.out = strconv.AppendInt(f.out, int64(*v), 10)
	}
}

// OptionalInt is a whole number, not written if it is 0.
func (f *Fields) OptionalInt(name string, v *int) {
	if !f.absent(*v == 0) {
		f.Int(name, v)
	}
}

// Uint is a whole number that is not negative.
func (f *Fields) Uint(name string, v *uint64) {
	switch {
	case !f.name(name):
	case f.reading:
		*v = f.nextUint()
	default:
		f.out = strconv.AppendUint(f.out, *v, 10)
	}
}

// OptionalUint is a whole number that is not negative, not written if it is 0.
func (f *Fields) OptionalUint(name string, v *uint64) {
	if !f.absent(*v == 0) {
		f.Uint(name, v)
	}
}

// Float is a number.
func (f *Fields) Float(name string, v *float64) {
	switch {
	case !f.name(name):
	case f.reading:
		*v = f.nextFloat()
	default:
		f.number(name, *v)
	}
}

// number writes a number.
func (f *Fields) number(name string, v float64) {
	out, err := appendFloat(f.out, v)
	f.out = out
	f.fail(name, err)
}

// OptionalFloat is a number, not written if it is 0.
func (f *Fields) OptionalFloat(name string, v *float64) {
	if !f.absent(*v == 0) {
		f.Float(name, v)
	}
}

// Time is a time. Only a time in UTC is read.
func (f *Fields) Time(name string, v *time.Time) {
	switch {
	case !f.name(name):
	case f.reading:
		*v = f.nextTime()
	default:
		f.out = append(f.out, '"')
		out, err := v.AppendText(f.out)
		f.out = append(out, '"')
		f.fail(name, err)
	}
}

// OptionalTime is a time, not written if it is zero.
func (f *Fields) OptionalTime(name string, v *time.Time) {
	if !f.absent(v.IsZero()) {
		f.Time(name, v)
	}
}

// OptionalFloats are numbers by name, not written if there are none and never read.
func (f *Fields) OptionalFloats(name string, v map[string]float64) {
	if f.reading || len(v) == 0 || !f.name(name) {
		return
	}
	keys := make([]string, 0, 16)
	for key := range v {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	f.out = append(f.out, '{')
	for i, key := range keys {
		if i > 0 {
			f.out = append(f.out, ',')
		}
		f.out = append(appendText(f.out, key, f.escape), ':')
		f.number(name, v[key])
	}
	f.out = append(f.out, '}')
}

// Other is anything else, not written unless it is present and never read. encoding/json writes it.
func (f *Fields) Other(name string, present bool, v any) {
	if f.reading || !present || !f.name(name) {
		return
	}
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(bool(f.escape))
	f.fail(name, enc.Encode(v))
	f.out = append(f.out, bytes.TrimSuffix(text.Bytes(), []byte("\n"))...)
}

// Object is a struct whose fields are listed by a function.
func Object[T any](f *Fields, name string, v *T, list func(*Fields, *T)) {
	if f.name(name) {
		object(f, v, list)
	}
}

// OptionalObject is a struct whose fields are listed by a function, not written if v points to nil.
func OptionalObject[T any](f *Fields, name string, v **T, list func(*Fields, *T)) {
	if f.absent(*v == nil) || !f.name(name) {
		return
	}
	if f.reading {
		*v = new(T)
	}
	object(f, *v, list)
}

// OptionalObjects are structs whose fields are listed by a function, not written if there are none.
// Where they are read, room is left for one more.
func OptionalObjects[T any](f *Fields, name string, v *[]T, list func(*Fields, *T)) {
	switch {
	case f.absent(len(*v) == 0) || !f.name(name):
	case f.reading:
		readObjects(f, v, list)
	default:
		f.out = append(f.out, '[')
		for i := range *v {
			if i > 0 {
				f.out = append(f.out, ',')
			}
			object(f, &(*v)[i], list)
		}
		f.out = append(f.out, ']')
	}
}

func object[T any](f *Fields, v *T, list func(*Fields, *T)) {
	if f.reading {
		f.expect("{")
		f.begun = false
		list(f, v)
		f.expect("}")
		f.begun = true
		return
	}
	f.out = append(f.out, '{')
	list(f, v)
	f.out = append(f.out, '}')
}

func readObjects[T any](f *Fields, v *[]T, list func(*Fields, *T)) {
	const between = "},{"
	end := strings.IndexByte(f.in, ']') // of the list, or within one of its texts
	*v = make([]T, 0, strings.Count(f.in[:max(end, 0)], between)+2)
	f.expect("[")
	for more := true; more; more = f.next(",") {
		var zero T
		*v = append(*v, zero)
		object(f, &(*v)[len(*v)-1], list)
	}
	f.expect("]")
}

func (f *Fields) fail(name string, err error) {
	if err != nil && f.err == nil {
		f.err = fmt.Errorf("field %s: %w", name, err)
	}
}
