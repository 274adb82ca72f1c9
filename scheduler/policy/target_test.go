package policy

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestTargetOf_IsTheOneAskedForOrThePolicys(t *testing.T) {
	for _, tc := range []struct{ target, asked, want string }{
		{"{service}.{operation}", "", "billing.charge"},
		{"{service}.{operation}", "pay.now", "pay.now"},
		{"v2.{operation}.{service}.{operation}", "", "v2.charge.billing.charge"},
		{"fixed.subject", "", "fixed.subject"},
		{"{service", "", "{service"},
		{"{{service}}.{other}", "", "{billing}.{other}"},
	} {
		p := Policy{Target: tc.target}
		if got := p.TargetOf(tc.asked, "billing", "charge"); got != tc.want {
			t.Errorf("target %q, asked for %q: got %q, want %q", tc.target, tc.asked, got, tc.want)
		}
	}
}

func TestAllows_MatchesLikeNATS(t *testing.T) {
	for _, tc := range []struct {
		targets []string
		subject string
		want    bool
	}{
		{nil, "anything.at.all", true},
		{[]string{"billing.charge"}, "billing.charge", true},
		{[]string{"billing.charge"}, "billing.charge.v2", false},
		{[]string{"billing.charge"}, "billing", false},
		{[]string{"billing.*"}, "billing.charge", true},
		{[]string{"billing.*"}, "billing.charge.v2", false},
		{[]string{"billing.*"}, "billing", false},
		{[]string{"*.charge"}, "billing.charge", true},
		{[]string{"billing.>"}, "billing.charge.v2", true},
		{[]string{"billing.>"}, "billing", false},
		{[]string{">"}, "billing", true},
		{[]string{"billing.*", "pay.>"}, "pay.now.please", true},
		{[]string{"billing.*", "pay.>"}, "shipping.send", false},
	} {
		p := Policy{Targets: tc.targets}
		if got := p.Allows(tc.subject); got != tc.want {
			t.Errorf("targets %v allow %q: %t, want %t", tc.targets, tc.subject, got, tc.want)
		}
	}
}

func TestMatches_IsWhatTheTokensSay(t *testing.T) {
	tokens := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "", "*"}), 1, 4)
	rapid.Check(t, func(t *rapid.T) {
		subject, pattern := tokens.Draw(t, "subject"), tokens.Draw(t, "pattern")
		if rapid.Bool().Draw(t, "open") {
			pattern = append(pattern, ">")
		}
		want := len(pattern) == len(subject) || pattern[len(pattern)-1] == ">" && len(subject) >= len(pattern)
		for i, p := range pattern {
			want = want && (p == ">" || p == "*" || i < len(subject) && p == subject[i])
		}
		if got := Matches([]string{strings.Join(pattern, ".")}, strings.Join(subject, ".")); got != want {
			t.Fatalf("%v matches %v: %v, want %v", pattern, subject, got, want)
		}
	})
}

func TestTargetOf_AllocatesOnlyTheSubject(t *testing.T) {
	p := Policy{Target: defaultTarget, Targets: []string{"x.*", "billing.>"}}
	if n := testing.AllocsPerRun(100, func() {
		if !p.Allows(p.TargetOf("", "billing", "charge")) {
			t.Error("the target is not allowed")
		}
	}); n > 1 {
		t.Errorf("a target takes %v allocations, want 1", n)
	}
}
