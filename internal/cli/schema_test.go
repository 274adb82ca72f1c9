package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/rebound-mq/rebound/internal/cli/command"
	"github.com/rebound-mq/rebound/schemas"
)

func TestSchema_PrintsEverySchemaByName(t *testing.T) {
	c := &cli{t: t}
	names := strings.Fields(c.ok("schema"))
	if len(names) != len(schemas.Names())+1 {
		t.Errorf("names %v", names)
	}
	for _, name := range names {
		if text := c.ok("schema", name); name != asyncAPI && !json.Valid([]byte(text)) {
			t.Errorf("schema %s is no JSON", name)
		}
	}
	c.fails(exitUsage, "no schema is named", "schema", "nothing")
	c.fails(exitUsage, "at most 1 arg", "schema", "a", "b")
}

func TestCompletion_OffersCommandsValuesAndSchemas(t *testing.T) {
	c := &cli{t: t}
	for want, args := range map[string][]string{
		"exhausted":                 {"dead", "list", "--reason", ""},
		"json":                      {"status", "--output", ""},
		"rebound.retryFailed.v1":    {"schema", "rebound.retryF"},
		"critical":                  {"submit", "--priority", ""},
		"outcomes\tFollow how oper": {"outc"},
	} {
		if out := c.ok(append([]string{"__complete"}, args...)...); !strings.Contains(out, want) {
			t.Errorf("%v completes to %q, want %q", args, out, want)
		}
	}
	if script := c.ok("completion", "bash"); !strings.Contains(script, "rebound") {
		t.Error("there is no script for bash")
	}
}

func TestVersion_IsPrintedAndMadeSemantic(t *testing.T) {
	c := &cli{t: t}
	if out := c.ok("version"); !strings.HasPrefix(out, "rebound dev (go") {
		t.Error(out)
	}
	if v := jsonLines[versions](t, c.ok("version", "--output", "json")); v[0].NATSServer == "" || v[0].Rebound != "dev" {
		t.Errorf("%+v", v)
	}
	for given, want := range map[string]string{
		"dev": "0.0.0+dev", "v1.2.3": "1.2.3", "v1.2.3-4-gabc-dirty": "1.2.3-4-gabc-dirty", "abc1234": "0.0.0+abc1234", "a/b": "0.0.0+a-b",
	} {
		if got := (&command.App{Version: given}).SemanticVersion(); got != want {
			t.Errorf("the semantic version of %q = %q, want %q", given, got, want)
		}
	}
}
