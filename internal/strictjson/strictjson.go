package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"unicode/utf8"

	"github.com/rebound-mq/rebound/internal/clip"
)

// maxShown bounds how much of a name an error shows, in bytes.
const maxShown = 40

// Unmarshal reads the only JSON value of data into the value that into points to. Errors show
// names and positions, but nothing else of data.
func Unmarshal(data []byte, into any) error {
	if !utf8.Valid(data) {
		return errors.New("it is not valid UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	w := walker{dec: dec}
	first, err := w.next()
	if err != nil {
		return err
	}
	if first == nil {
		return errors.New("it is null")
	}
	if err := w.value(first, reflect.TypeOf(into)); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the JSON value")
	}
	if err := json.Unmarshal(data, into); err != nil {
		return problem(err)
	}
	return nil
}

// UniqueNames returns an error if data, which is valid JSON, is an object that has a name twice.
// It does not look into the values of the object.
func UniqueNames(data []byte) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	w := walker{dec: dec}
	if first, err := w.next(); err != nil || first != json.Delim('{') {
		return err
	}
	seen := make(map[string]bool)
	for dec.More() {
		token, err := w.next()
		if err != nil {
			return err
		}
		name, _ := token.(string)
		if seen[name] {
			return fmt.Errorf("%s stands twice", shown(name))
		}
		seen[name] = true
		var skipped json.RawMessage
		if err := dec.Decode(&skipped); err != nil {
			return problem(err)
		}
	}
	return nil
}

// walker compares the tokens of a document with the target type.
type walker struct{ dec *json.Decoder }

func (w *walker) next() (json.Token, error) {
	t, err := w.dec.Token()
	if err != nil {
		return nil, problem(err)
	}
	return t, nil
}

// value walks through the value that begins with token first. A nil type has no fields.
func (w *walker) value(first json.Token, t reflect.Type) error {
	switch first {
	case json.Delim('{'):
		return w.object(shapeOf(t))
	case json.Delim('['):
		return w.array(shapeOf(t).other)
	}
	return nil
}

func (w *walker) object(s shape) error {
	seen := make(map[string]bool)
	for w.dec.More() {
		token, err := w.next()
		if err != nil {
			return err
		}
		name, _ := token.(string)
		member, known := s.members[name]
		switch {
		case seen[name]:
			return fmt.Errorf("%s stands twice", shown(name))
		case s.members != nil && !known:
			return fmt.Errorf("unknown field %s", shown(name))
		case s.members == nil:
			member = s.other
		}
		seen[name] = true
		if token, err = w.next(); err != nil {
			return err
		}
		if err := w.value(token, member); err != nil {
			return err
		}
	}
	_, err := w.next()
	return err
}

func (w *walker) array(t reflect.Type) error {
	for w.dec.More() {
		token, err := w.next()
		if err != nil {
			return err
		}
		if err := w.value(token, t); err != nil {
			return err
		}
	}
	_, err := w.next()
	return err
}

// problem describes an error without quoting the input.
func problem(err error) error {
	var syntax *json.SyntaxError
	var mismatch *json.UnmarshalTypeError
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("it is empty or breaks off")
	case errors.As(err, &syntax):
		return fmt.Errorf("it is not JSON: %s at byte %d", syntax.Error(), syntax.Offset)
	case errors.As(err, &mismatch) && mismatch.Field != "":
		return fmt.Errorf("%s is not of the type %s", shown(mismatch.Field), mismatch.Type)
	case errors.As(err, &mismatch):
		return fmt.Errorf("it is not of the type %s", mismatch.Type)
	}
	return fmt.Errorf("%s", clip.Text(err.Error(), 4*maxShown))
}

func shown(name string) string { return fmt.Sprintf("%q", clip.Text(name, maxShown)) }
