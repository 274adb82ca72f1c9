package events

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestPattern_MatchesWhatItSays(t *testing.T) {
	for _, c := range []struct {
		pattern, text string
		yes, no       []string
	}{
		{"billing:charge", "billing:charge", []string{"billing:charge"}, []string{"billing:charges", "billin:charge", "Billing:charge"}},
		{"billing", "billing", []string{"billing:charge", "billing:x"}, []string{"billing2:charge"}},
		{"billing:*", "billing", []string{"billing:charge"}, []string{"bill:charge"}},
		{"bill*:*", "bill*", []string{"billing:charge", "bill:x"}, []string{"abill:x"}},
		{"*:ch**e", "*:ch*e", []string{"a:charge", "b:che"}, []string{"a:charges"}},
		{"*", "*", []string{"a:b", "x-y:z_1"}, nil},
		{"**:**", "*", []string{"a:b"}, nil},
		{"*a*", "*a*", []string{"a:b", "bab:c"}, []string{"b:a"}},
	} {
		p, err := ParsePattern(c.pattern)
		if err != nil || p.String() != c.text {
			t.Errorf("pattern %s reads as %q with error %v, want %q", c.pattern, p, err, c.text)
		}
		for want, keys := range map[bool][]string{true: c.yes, false: c.no} {
			for _, key := range keys {
				service, operation, _ := strings.Cut(key, ":")
				if got := p.Matches(service, operation); got != want {
					t.Errorf("%s matches %s: %v, want %v", c.pattern, key, got, want)
				}
			}
		}
	}
	if (Pattern{}).Matches("", "") || (Pattern{}).Matches("a", "b") {
		t.Error("the zero pattern matches")
	}
}

func TestPattern_NonsenseIsRefused(t *testing.T) {
	for pattern, want := range map[string]string{
		"": "empty service", "billing:": "empty operation type", ":charge": "empty service", "a:b:c": "the operation type",
		"bill?": "the service", "bill[a]": "the service", "bi ll": "the service", "-a": "the service", `a\*`: "the service",
		strings.Repeat("a", 65): "the service", "a.b": "the service",
	} {
		if _, err := ParsePattern(pattern); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "a pattern is a key") {
			t.Errorf("pattern %q gives error %v, want one of %q", pattern, err, want)
		}
	}
}

func TestPattern_LiteralHasNoWildcard(t *testing.T) {
	for pattern, want := range map[string]string{"a:b": "a b true", "a": "a  true", "a:*": "a  true", "a*": "", "*": "", "a:b*": ""} {
		p, err := ParsePattern(pattern)
		if err != nil {
			t.Fatal(err)
		}
		service, operation, ok := p.Literal()
		got := ""
		if ok {
			got = service + " " + operation + " true"
		}
		if got != want {
			t.Errorf("%s is literally %q, want %q", pattern, got, want)
		}
	}
}

func TestPattern_TextReadsAsTheSamePattern(t *testing.T) {
	part := rapid.StringMatching(`[a-z0-9*][a-z0-9*_-]{0,8}`)
	rapid.Check(t, func(t *rapid.T) {
		text := part.Draw(t, "service")
		if rapid.Bool().Draw(t, "keyed") {
			text += ":" + part.Draw(t, "operation")
		}
		p, err := ParsePattern(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		again, err := ParsePattern(p.String())
		if err != nil || again != p {
			t.Fatalf("%s reads as %v and then as %v with error %v", text, p, again, err)
		}
	})
}
