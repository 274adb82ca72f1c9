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

// Members returns the members of the object data, which is valid JSON, and an error if it has a
// name twice. It does not look into their values. There are none if data is no object.
func Members(data []byte) (map[string]json.RawMessage, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	w := walker{dec: dec}
	if first, err := w.next(); err != nil || first != json.Delim('{') {
		return nil, err
	}
	members := make(map[string]json.RawMessage)
	for dec.More() {
		token, err := w.next()
		if err != nil {
			return nil, err
		}
		name, _ := token.(string)
		if _, twice := members[name]; twice {
			return nil, fmt.Errorf("%s stands twice", shown(name))
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, problem(err)
		}
		members[name] = value
	}
	return members, nil
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
