package strictjson

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

type base struct {
	Name string `json:"name"`
}

type sample struct {
	base
	Count int               `json:"count,omitempty"`
	At    time.Time         `json:"at,omitzero"`
	More  map[string]string `json:"more,omitempty"`
	List  []base            `json:"list,omitempty"`
	Next  *sample           `json:"next,omitempty"`
	Any   any               `json:"any,omitempty"`
	Raw   json.RawMessage   `json:"raw,omitempty"`
	Own   string            `json:"-"`
}

func TestUnmarshal_ReadsWhatIsPlain(t *testing.T) {
	var got sample
	err := Unmarshal([]byte(` {"name":"a","count":2,"at":"2026-03-01T12:00:00Z","more":{"x":"y","X":"z"},"list":[{"name":"b"}],"next":{"name":"c"},"any":{"q":[1]},"raw":[{}]} `), &got)
	want := sample{
		base: base{"a"}, Count: 2, At: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), More: map[string]string{"x": "y", "X": "z"},
		List: []base{{"b"}}, Next: &sample{base: base{"c"}}, Any: map[string]any{"q": []any{1.0}}, Raw: json.RawMessage("[{}]"),
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v and error %v, want %+v", got, err, want)
	}
}

func TestUnmarshal_RefusesWhatLeavesADoubt(t *testing.T) {
	for name, c := range map[string]struct{ data, want string }{
		"nothing":                             {"", "empty"},
		"null":                                {"null", "null"},
		"an object that breaks off":           {`{"name":"s3cret"`, "breaks off"},
		"no JSON":                             {"s3cret", "not JSON"},
		"a second value":                      {`{} {}`, "something follows"},
		"a closing brace too many":            {`{}}`, "something follows"},
		"a closing bracket":                   {`{"name":"a"}]`, "something follows"},
		"text that is not UTF-8":              {"{\"name\":\"\xff\"}", "UTF-8"},
		"an unknown field":                    {`{"nam":"s3cret"}`, `unknown field "nam"`},
		"a field in another letter case":      {`{"Name":"a"}`, `unknown field "Name"`},
		"a field that stands twice":           {`{"name":"a","name":"b"}`, `"name" stands twice`},
		"a field twice, written in two ways":  {`{"name":"a","na\u006de":"b"}`, `"name" stands twice`},
		"an unknown field in a list":          {`{"list":[{"x":1}]}`, `unknown field "x"`},
		"an unknown field behind a pointer":   {`{"next":{"next":{"x":1}}}`, `unknown field "x"`},
		"a name twice in a map":               {`{"more":{"x":"1","x":"2"}}`, `"x" stands twice`},
		"a name twice in what may be any":     {`{"any":[{"x":1,"x":2}]}`, `"x" stands twice`},
		"a field that JSON does not have":     {`{"Own":"a"}`, "unknown field"},
		"another type":                        {`{"count":"s3cret"}`, `"count" is not of the type int`},
		"an array":                            {`[]`, "not of the type"},
		"a number that is too large":          {`{"count":1e99}`, `"count" is not of the type int`},
		"a comma too many":                    {`{"name":"a",}`, "not JSON"},
		"a field without a value":             {`{"name":}`, "not JSON"},
		"an embedded struct by its own name":  {`{"base":{"name":"a"}}`, "unknown field"},
		"a list that ends with another brace": {`{"list":[}}`, "not JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			var got sample
			err := Unmarshal([]byte(c.data), &got)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("%s is read as %+v with error %v, want one that says %q and shows no value", c.data, got, err, c.want)
			}
		})
	}
}

// FuzzUnmarshal compares the strict reader with encoding/json: it accepts nothing that
// encoding/json refuses, and reads the same values.
func FuzzUnmarshal(f *testing.F) {
	for _, seed := range []string{
		`{"name":"a","count":2}`, `{}`, `null`, `[]`, `{"name":"a"}]`, `{"more":{"x":"1","x":"2"}}`, `{"NAME":"a"}`, `{"any":{"a":[{"b":null}]}}`,
		`{"next":{"next":{"list":[{"name":"b"}]}}}`, "{\"name\":\"\xc3\"}", `{"count":1e2}`, `{"at":"x"}`, `{"name":"\ud800"}`, strings.Repeat(`{"next":`, 50),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var strict, lenient sample
		err := Unmarshal(data, &strict)
		if err != nil {
			if !utf8.ValidString(err.Error()) || len(err.Error()) > 400 {
				t.Errorf("the error has %d bytes: %q", len(err.Error()), err)
			}
			return
		}
		if err := json.Unmarshal(data, &lenient); err != nil {
			t.Fatalf("%q is accepted, and encoding/json says %v", data, err)
		}
		if !reflect.DeepEqual(strict, lenient) {
			t.Fatalf("%q is read as %+v, and by encoding/json as %+v", data, strict, lenient)
		}
		written, err := json.Marshal(strict)
		if err != nil {
			t.Fatal(err)
		}
		if err := Unmarshal(written, new(sample)); err != nil {
			t.Errorf("%q is written as %s, which is refused: %v", data, written, err)
		}
	})
}

func TestMembers_AreThoseOfTheOutermostObjectAndUnique(t *testing.T) {
	for data, want := range map[string]string{
		`{"a":1,"b":{"x":1,"x":2},"c":[{"y":1,"y":2}]}`: "", `{}`: "", `[]`: "", `1`: "",
		`{"a":1,"b":2,"a":3}`: `"a" stands twice`, `{"a":1,"\u0061":2}`: `"a" stands twice`,
	} {
		if _, err := Members([]byte(data)); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s gives %v, want %q", data, err, want)
		}
	}
	got, err := Members([]byte(`{"a": {"x":1,"x":2} ,"b":"y"}`))
	if want := map[string]json.RawMessage{"a": json.RawMessage(`{"x":1,"x":2}`), "b": json.RawMessage(`"y"`)}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("the members are %s, %v, want %s", got, err, want)
	}
}
