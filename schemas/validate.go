package schemas

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// Validate reports whether a JSON document conforms to a schema, which is named
// as in [Get]. The error is an [*InvalidError], whose one line names the path of
// every value at fault, or an [*UnknownError]. Formats such as date-time are
// checked as well.
func Validate(name string, doc []byte) error {
	name, err := known(name)
	if err != nil {
		return err
	}
	all, err := compiled()
	if err != nil {
		return err
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(doc))
	if err != nil {
		return &InvalidError{Schema: name, Issues: []Issue{{Problem: "is not JSON: " + jsonProblem(err)}}}
	}
	err = all[name].Validate(value)
	var invalid *jsonschema.ValidationError
	if errors.As(err, &invalid) {
		return &InvalidError{Schema: name, Issues: ordered(issues(invalid))}
	}
	return err
}

// compiled compiles every schema, once.
var compiled = sync.OnceValues(func() (map[string]*jsonschema.Schema, error) {
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	// No schema is ever loaded from outside.
	c.UseLoader(jsonschema.SchemeURLLoader{})
	all := make(map[string]*jsonschema.Schema, len(names()))
	for _, name := range names() {
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(read(name + suffix)))
		if err != nil {
			return nil, fmt.Errorf("schema %s: %w", name, err)
		}
		if err := c.AddResource(name+suffix, doc); err != nil {
			return nil, fmt.Errorf("schema %s: %w", name, err)
		}
		if all[name], err = c.Compile(name + suffix); err != nil {
			return nil, fmt.Errorf("schema %s: %w", name, err)
		}
	}
	return all, nil
})

// jsonProblem says what is wrong with text that is not JSON.
func jsonProblem(err error) string {
	var syntax *json.SyntaxError
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "it is empty or breaks off"
	case errors.As(err, &syntax):
		return fmt.Sprintf("%s at byte %d", clip(syntax.Error(), maxShown), syntax.Offset)
	}
	return clip(err.Error(), maxShown)
}

// issues flattens a validation error.
func issues(e *jsonschema.ValidationError) []Issue {
	path := pointer(e.InstanceLocation)
	switch k := e.ErrorKind.(type) {
	case *kind.Required:
		out := make([]Issue, len(k.Missing))
		for i, name := range k.Missing {
			out[i] = Issue{path + token(name), "is missing"}
		}
		return out
	case *kind.AdditionalProperties:
		out := make([]Issue, len(k.Properties))
		for i, name := range k.Properties {
			out[i] = Issue{path + token(name), "is not a known property"}
		}
		return out
	case *kind.PropertyNames:
		return []Issue{{path + token(k.Property), "has a name that is not allowed"}}
	case *kind.AnyOf, *kind.OneOf:
		return []Issue{{path, "has none of the allowed forms (" + forms(e) + ")"}}
	}
	if len(e.Causes) == 0 {
		return []Issue{{path, problem(e.ErrorKind)}}
	}
	var out []Issue
	for _, cause := range e.Causes {
		out = append(out, issues(cause)...)
	}
	return out
}

// ordered sorts issues by path, so that an error reads the same every time.
func ordered(all []Issue) []Issue {
	slices.SortStableFunc(all, func(a, b Issue) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Problem, b.Problem))
	})
	return slices.Compact(all)
}

// forms says for every form that a value may have what is wrong with it.
func forms(e *jsonschema.ValidationError) string {
	var out []string
	for _, cause := range e.Causes {
		for _, f := range issues(cause) {
			if f.Path == pointer(e.InstanceLocation) {
				out = append(out, f.Problem)
			} else {
				out = append(out, f.String())
			}
		}
	}
	return clip(strings.Join(out, "; "), 6*maxShown)
}

// printer writes the wording of the kinds that problem leaves to the library.
var printer = message.NewPrinter(language.English)

// problem words what is wrong with a value. It never shows more than a piece of
// the value itself.
func problem(k jsonschema.ErrorKind) string {
	switch k := k.(type) {
	case *kind.Type:
		return fmt.Sprintf("is of type %s, not %s", k.Got, strings.Join(k.Want, " or "))
	case *kind.Enum:
		return fmt.Sprintf("is %s, none of %s", shown(k.Got), list(k.Want))
	case *kind.Const:
		return fmt.Sprintf("is %s, not %s", shown(k.Got), shown(k.Want))
	case *kind.Pattern:
		return fmt.Sprintf("is %s, which does not match %s", shown(k.Got), k.Want)
	case *kind.Format:
		return fmt.Sprintf("is %s, which is no %s", shown(k.Got), k.Want)
	case *kind.MinLength:
		return fmt.Sprintf("has %d characters, fewer than %d", k.Got, k.Want)
	case *kind.MaxLength:
		return fmt.Sprintf("has %d characters, more than %d", k.Got, k.Want)
	case *kind.MinItems:
		return fmt.Sprintf("has %d elements, fewer than %d", k.Got, k.Want)
	case *kind.MaxItems:
		return fmt.Sprintf("has %d elements, more than %d", k.Got, k.Want)
	case *kind.Minimum:
		return fmt.Sprintf("is %s, less than %s", clip(k.Got.RatString(), maxShown), k.Want.RatString())
	case *kind.Maximum:
		return fmt.Sprintf("is %s, more than %s", clip(k.Got.RatString(), maxShown), k.Want.RatString())
	case *kind.Not:
		return "has a form that is not allowed"
	}
	return clip(k.LocalizedString(printer), 2*maxShown)
}

// shown returns a value as JSON, cut short.
func shown(v any) string {
	if s, ok := v.(string); ok {
		return fmt.Sprintf("%q", clip(s, maxShown))
	}
	text, err := json.Marshal(v)
	if err != nil {
		return "unreadable"
	}
	return clip(string(text), maxShown)
}

func list(values []any) string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = shown(v)
	}
	return strings.Join(out, ", ")
}

// pointer returns a JSON pointer fit to be shown.
func pointer(tokens []string) string {
	var b strings.Builder
	for _, t := range tokens {
		b.WriteString(token(t))
	}
	return b.String()
}

func token(name string) string {
	return "/" + clip(strings.NewReplacer("~", "~0", "/", "~1").Replace(name), maxShown)
}
