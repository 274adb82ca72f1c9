package schemas_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/rebound-mq/rebound/schemas"
)

// schema returns a schema as a JSON object.
func schema(t *testing.T, name string) map[string]any {
	t.Helper()
	text, err := schemas.Get(name)
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return out
}

// keywords are those of draft 2020-12 that the schemas use. A misspelt one would
// be ignored by every validator.
var keywords = []string{
	"$schema", "$id", "$ref", "$defs", "title", "description", "examples",
	"type", "enum", "const", "anyOf", "allOf", "not",
	"properties", "required", "additionalProperties", "propertyNames",
	"items", "minItems", "maxItems",
	"pattern", "format", "minLength", "maxLength", "contentEncoding",
	"minimum", "maximum",
}

// eachNode calls do with every schema within a schema, with its JSON pointer.
func eachNode(node map[string]any, path string, do func(path string, node map[string]any)) {
	do(path, node)
	for keyword, value := range node {
		switch keyword {
		case "properties", "$defs":
			for name, child := range value.(map[string]any) {
				eachNode(child.(map[string]any), path+"/"+keyword+"/"+name, do)
			}
		case "items", "not", "propertyNames", "additionalProperties":
			if child, ok := value.(map[string]any); ok {
				eachNode(child, path+"/"+keyword, do)
			}
		case "anyOf", "allOf":
			for _, child := range value.([]any) {
				eachNode(child.(map[string]any), path+"/"+keyword, do)
			}
		}
	}
}

func TestSchemas_EachIsStrictDraft202012(t *testing.T) {
	for _, name := range schemas.Names() {
		t.Run(name, func(t *testing.T) {
			s := schema(t, name)
			if s["$schema"] != "https://json-schema.org/draft/2020-12/schema" {
				t.Errorf("$schema is %v", s["$schema"])
			}
			if want := "https://github.com/rebound-mq/rebound/schemas/" + name + ".json"; s["$id"] != want {
				t.Errorf("$id is %v, want %s", s["$id"], want)
			}
			c := jsonschema.NewCompiler()
			c.UseLoader(jsonschema.SchemeURLLoader{})
			if err := c.AddResource(name, s); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Compile(name); err != nil {
				t.Fatal(err)
			}
			eachNode(s, "", func(path string, node map[string]any) {
				for keyword := range node {
					if !slices.Contains(keywords, keyword) {
						t.Errorf("%s has the unknown keyword %s", path, keyword)
					}
				}
			})
		})
	}
}

func TestSchemas_EachDocumentsItself(t *testing.T) {
	for _, name := range schemas.Names() {
		t.Run(name, func(t *testing.T) {
			s := schema(t, name)
			for _, keyword := range []string{"title", "description", "examples"} {
				if s[keyword] == nil {
					t.Errorf("the schema has no %s", keyword)
				}
			}
			eachNode(s, "", func(path string, node map[string]any) {
				for property, child := range asObject(node["properties"]) {
					described(t, path+"/"+property, property, child.(map[string]any))
				}
			})
		})
	}
}

// described insists on a description, with the unit of a duration.
func described(t *testing.T, path, property string, node map[string]any) {
	t.Helper()
	if node["$ref"] != nil || node["const"] == true {
		return
	}
	text, _ := node["description"].(string)
	if text == "" {
		t.Errorf("%s has no description", path)
	}
	if strings.HasSuffix(property, "Ms") && !strings.Contains(text, "milliseconds") {
		t.Errorf("%s does not name its unit: %s", path, text)
	}
	if node["format"] == "date-time" && !strings.Contains(text, "RFC 3339") {
		t.Errorf("%s does not name its notation: %s", path, text)
	}
}

func asObject(v any) map[string]any {
	o, _ := v.(map[string]any)
	return o
}

func TestSchemas_ExamplesConform(t *testing.T) {
	for _, name := range schemas.Names() {
		for _, example := range schema(t, name)["examples"].([]any) {
			doc, _ := json.Marshal(example)
			if err := schemas.Validate(name, doc); err != nil {
				t.Errorf("an example of %s: %v\n%s", name, err, doc)
			}
		}
	}
}

// eachObject calls do with every object within value whose schema is node, and
// with that schema and the object's JSON pointer.
func eachObject(root, node map[string]any, value any, path string, do func(path string, node, object map[string]any)) {
	if ref, ok := node["$ref"].(string); ok {
		node = root["$defs"].(map[string]any)[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any)
	}
	switch value := value.(type) {
	case map[string]any:
		do(path, node, value)
		for property, child := range asObject(node["properties"]) {
			if v, ok := value[property]; ok {
				eachObject(root, child.(map[string]any), v, path+"/"+property, do)
			}
		}
	case []any:
		if items := asObject(node["items"]); items != nil && len(value) > 0 {
			eachObject(root, items, value[0], path+"/0", do)
		}
	}
}

func TestValidate_MissingPropertyIsRefused(t *testing.T) {
	tried := 0
	for _, name := range schemas.Names() {
		s := schema(t, name)
		for _, example := range s["examples"].([]any) {
			eachObject(s, s, example, "", func(path string, node, object map[string]any) {
				required, _ := node["required"].([]any)
				for _, property := range required {
					property := property.(string)
					kept := object[property]
					delete(object, property)
					doc, _ := json.Marshal(example)
					object[property] = kept
					wantIssue(t, name, doc, path+"/"+property, "is missing")
					tried++
				}
			})
		}
	}
	if tried < 80 {
		t.Errorf("only %d absences were tried", tried)
	}
}

func TestValidate_UnknownPropertyIsRefused(t *testing.T) {
	for _, name := range schemas.Names() {
		if name == "rebound.operation.failed.v1" {
			continue // Extension attributes are welcome there.
		}
		s := schema(t, name)
		for _, example := range s["examples"].([]any) {
			eachObject(s, s, example, "", func(path string, node, object map[string]any) {
				if node["properties"] == nil {
					return
				}
				object["surprise"] = 1
				doc, _ := json.Marshal(example)
				delete(object, "surprise")
				wantIssue(t, name, doc, path+"/surprise", "is not a known property")
			})
		}
	}
}

// wantIssue insists that a document has an issue and that the error's one line
// names it.
func wantIssue(t *testing.T, name string, doc []byte, path, problem string) {
	t.Helper()
	err := schemas.Validate(name, doc)
	var invalid *schemas.InvalidError
	if !errors.As(err, &invalid) {
		t.Errorf("%s: got %v for %s, want that %s %s", name, err, doc, path, problem)
		return
	}
	if !slices.Contains(invalid.Issues, schemas.Issue{Path: path, Problem: problem}) {
		t.Errorf("%s: got %v, want that %s %s", name, err, path, problem)
	}
	if !strings.Contains(err.Error(), path+" "+problem) || strings.Contains(err.Error(), "\n") {
		t.Errorf("%s: the error is no line that names %s: %q", name, path, err.Error())
	}
}

func TestNames_AreWhatTheServiceAsksFor(t *testing.T) {
	want := []string{
		"adoptAdd.request", "adoptAdded.response", "adoptList.response", "adoptRemove.request", "adoptRemoved.response",
		"breakerAct.request", "breakerAct.response", "breakerList.request", "breakerList.response", "breakerShow.request", "breakerShow.response", "coordination.response",
		"deadAct.request", "deadAct.response", "deadLetter", "deadList.request", "deadList.response", "deadShow.request",
		"error.response", "health.request", "health.response",
		"keyFind.request", "keyFind.response", "pauseAdd.request", "pauseAdded.response", "pauseEnd.request", "pauseEnded.response", "pauseList.response",
		"policyApplied.response", "policyCheck.response", "policyExplain.request", "policyExplain.response", "policyHistory.response", "policyRollback.request",
		"policyShow.response", "policySource.request", "rebound.backpressureChanged.v1", "rebound.breakerChanged.v1", "rebound.health.v1", "rebound.operation.failed.v1", "rebound.pauseChanged.v1", "rebound.report.v1", "rebound.retryFailed.v1",
		"rebound.retryScheduled.v1", "rebound.retrySuccess.v1", "reported.response", "status.response", "submitted",
	}
	if got := schemas.Names(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestNames_MayBeChangedByTheCaller(t *testing.T) {
	schemas.Names()[0] = "changed"
	if got := schemas.Names()[0]; got == "changed" {
		t.Error("a caller changed the names")
	}
}

func TestGet_TakesANameWithAndWithoutItsEnding(t *testing.T) {
	for _, pair := range [][2]string{{"submitted", "submitted.json"}, {"asyncapi", "asyncapi.yaml"}} {
		a, err := schemas.Get(pair[0])
		b, err2 := schemas.Get(pair[1])
		if err != nil || err2 != nil || len(a) == 0 || !bytes.Equal(a, b) {
			t.Errorf("%s and %s differ: %v, %v", pair[0], pair[1], err, err2)
		}
	}
	if text, _ := schemas.Get("asyncapi"); !bytes.Equal(text, schemas.AsyncAPI()) {
		t.Error("asyncapi is not the AsyncAPI document")
	}
}

func TestGet_UnknownNameIsAnsweredWithTheKnownOnes(t *testing.T) {
	for asked, want := range map[string]string{
		"retryFailed":                 "rebound.retryFailed.v1",
		"rebound.retryfailed.v1.json": "rebound.retryFailed.v1",
		"retrySucess":                 "rebound.retrySuccess.v1",
		"deadlist.reqest":             "deadList.request",
		"stat":                        "status.response",
		"dead":                        "deadLetter",
		"asyncapi.json":               "asyncapi",
		"asynapi":                     "asyncapi",
		"completely different":        "",
		"":                            "",
		strings.Repeat("x", 10_000):   "",
		"../schemas":                  "",
	} {
		_, err := schemas.Get(asked)
		var unknown *schemas.UnknownError
		if !errors.As(err, &unknown) {
			t.Errorf("%.40q: got %v, want an UnknownError", asked, err)
			continue
		}
		if unknown.Nearest != want {
			t.Errorf("%.40q: nearest is %q, want %q", asked, unknown.Nearest, want)
		}
		if unknown.Name != asked || !slices.Contains(unknown.Known, "asyncapi") || len(unknown.Known) != len(schemas.Names())+1 {
			t.Errorf("%.40q: the error has name %.40q and names %v", asked, unknown.Name, unknown.Known)
		}
		if len(err.Error()) > 1400 || !strings.Contains(err.Error(), "there are adoptAdd.request, ") {
			t.Errorf("%.40q: the error reads %s", asked, err)
		}
		if err := schemas.Validate(asked, nil); !errors.As(err, &unknown) {
			t.Errorf("%.40q: Validate gave %v, want an UnknownError", asked, err)
		}
	}
}

func TestCompact_IsTheSchemaOnOneLine(t *testing.T) {
	for _, name := range schemas.Names() {
		compact := schemas.Compact(name)
		if strings.Contains(compact, "\n") {
			t.Errorf("%s has several lines", name)
		}
		var got map[string]any
		if err := json.Unmarshal([]byte(compact), &got); err != nil || got["$id"] != schema(t, name)["$id"] {
			t.Errorf("%s compact is another schema: %v", name, err)
		}
	}
	defer func() {
		var unknown *schemas.UnknownError
		if err, _ := recover().(error); !errors.As(err, &unknown) {
			t.Errorf("an unknown name gave %v, want a panic with an UnknownError", err)
		}
	}()
	schemas.Compact("no such schema")
}

func TestValidate_ErrorIsOneReadableLine(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	for _, c := range []struct{ name, schema, doc, want string }{
		{"a missing property", "deadShow.request", `{}`, "not a valid deadShow.request: /id is missing"},
		{"a document of another type", "deadShow.request", `[]`, "not a valid deadShow.request: the document is of type array, not object"},
		{"no document", "deadShow.request", ``, "not a valid deadShow.request: the document is not JSON: it is empty or breaks off"},
		{"no JSON", "deadShow.request", `{"id":x}`, "the document is not JSON: invalid character 'x'"},
		{"something after the document", "deadShow.request", `{} {}`, "the document is not JSON"},
		{"a value out of a list", "deadList.request", `{"reason":"tired"}`, `/reason is "tired", none of "exhausted", "not_retryable"`},
		{"a value below the bound", "deadList.request", `{"limit":-1}`, "/limit is -1, less than 0"},
		{"a value over the bound", "deadList.request", `{"limit":1001}`, "/limit is 1001, more than 1000"},
		{"an enormous number", "deadList.request", `{"limit":1e9999}`, "more than 1000"},
		{"a time that is none", "deadList.request", `{"since":"yesterday"}`, `/since is "yesterday", which is no date-time`},
		{"a long text", "deadList.request", `{"service":"` + long + `"}`, `…", which does not match`},
		{"a property with a slash and a line break", "deadShow.request", `{"a/b\n":1}`, "/a~1b\uFFFD is not a known property"},
		{"no condition at all", "deadAct.request", `{}`, "the document has none of the allowed forms (/ids is missing; "},
		{"issues in the order of their paths", "deadList.request", `{"limit":-1,"after":-1}`, "/after is -1, less than 0; /limit is -1, less than 0"},
		{"an issue deep inside", "deadList.response", `{"deadLetters":[{}]}`, "/deadLetters/0/attempts is missing; "},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := schemas.Validate(c.schema, []byte(c.doc))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %s", err, c.want)
			}
			if strings.ContainsAny(err.Error(), "\n\r\x00") || len(err.Error()) > 1200 {
				t.Errorf("the error has %d bytes: %.200q", len(err.Error()), err)
			}
		})
	}
}

func TestValidate_ManyIssuesAreCounted(t *testing.T) {
	doc := "{"
	for _, c := range "abcdefghijkl" {
		doc += `"` + string(c) + `":1,`
	}
	err := schemas.Validate("deadShow.request", []byte(doc+`"id":"x"}`))
	if err == nil || !strings.HasSuffix(err.Error(), "; and 5 more") {
		t.Errorf("got %v, want eight issues and 5 more", err)
	}
}

func TestValidate_MayBeCalledAtOnce(t *testing.T) {
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for _, name := range schemas.Names() {
				if err := schemas.Validate(name, []byte(`{"surprise":{}}`)); err == nil {
					t.Errorf("%s takes anything", name)
				}
			}
		})
	}
	wg.Wait()
}
