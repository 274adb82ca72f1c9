package policy

import (
	"slices"
	"strings"
	"testing"
)

// FuzzParseOverrides lays any overrides over a policy. What is accepted never
// gives more than the policy, and means the same when it is written again.
func FuzzParseOverrides(f *testing.F) {
	for _, c := range [][2]string{
		{"maxattempts", "2"},
		{"maxattempts", "1e9"},
		{"maxattempts", "-1"},
		{"maxattempts", "99999999999999999999"},
		{"basedelay", "250"},
		{"basedelay", "1.5s"},
		{"maxdelay", "8760h"},
		{"maxdelay", "0"},
		{"multiplier", "NaN"},
		{"multiplier", "0x1p3"},
		{"multiplier", "1e400"},
		{"backoffstrategy", "linear"},
		{"jittertype", "Full"},
		{"attempttimeout", "1m"},
		{"maxelapsedtime", "-0"},
		{"maxAttempts", "2"},
		{"target", "x"},
		{"", ""},
		{"basedelay", "\xff"},
		{"basedelay", "1\n"},
	} {
		f.Add(c[0], c[1], "maxattempts", "3")
	}
	p := usual()
	f.Fuzz(func(t *testing.T, name, value, other, otherValue string) {
		asked := map[string]string{name: value, other: otherValue}
		o, err := ParseOverrides(asked)
		if err != nil {
			for _, issue := range Issues(err) {
				if !slices.Contains([]string{name, other}, issue.Key) || issue.Problem == "" || strings.ContainsAny(issue.Error(), "\r\n") {
					t.Errorf("the issue of %q reads %q", asked, issue)
				}
			}
			if len(Issues(err)) == 0 {
				t.Errorf("the error of %q is no issue: %v", asked, err)
			}
			return
		}
		got := p.Override(o)
		if got.MaxAttempts < 1 || got.MaxAttempts > p.MaxAttempts || got.MaxDelay < 0 || got.MaxDelay > p.MaxDelay || got.BaseDelay < 0 || got.BaseDelay > got.MaxDelay ||
			got.AttemptTimeout <= 0 || got.AttemptTimeout > p.AttemptTimeout || got.MaxElapsedTime < 0 || !(got.Multiplier > 0) {
			t.Fatalf("%q gives %+v", asked, got)
		}
		written := map[string]string{}
		for attribute, i := range keyOf {
			if !keys[i].Overridable {
				continue
			}
			written[attribute] = keys[i].text(got)
		}
		again, err := ParseOverrides(written)
		if err != nil {
			t.Fatalf("%q is written as %v, which is refused: %v", asked, written, err)
		}
		if twice := p.Override(again); !alike(got, twice) {
			t.Fatalf("%q gives %+v and, written as %v, %+v", asked, got, written, twice)
		}
		decideWithinBounds(t, got, Query{Service: "a", Operation: "b"})
	})
}
