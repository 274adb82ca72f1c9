package policy

import "testing"

func TestTargetOf_IsTheOneAskedForOrThePolicys(t *testing.T) {
	for _, tc := range []struct{ target, asked, want string }{
		{"{service}.{operation}", "", "billing.charge"},
		{"{service}.{operation}", "pay.now", "pay.now"},
		{"v2.{operation}.{service}.{operation}", "", "v2.charge.billing.charge"},
		{"fixed.subject", "", "fixed.subject"},
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
