package doctor

import (
	"reflect"
	"testing"

	natsd "github.com/nats-io/nats-server/v2/server"

	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/internal/adoption"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

func TestPermits_WantsAllOfASubject(t *testing.T) {
	for name, tc := range map[string]struct {
		allow, deny []string
		want        bool
	}{
		"nothing said":            {nil, nil, true},
		"allowed":                 {[]string{"a.>"}, nil, true},
		"allowed with a queue":    {[]string{"a.> q"}, nil, true},
		"another allowed":         {[]string{"b.>"}, nil, false},
		"a part allowed":          {[]string{"a.b"}, nil, false},
		"a part denied":           {[]string{">"}, []string{"a.b.c"}, false},
		"something else denied":   {[]string{">"}, []string{"b"}, true},
		"denied, nothing allowed": {nil, []string{"a.>"}, false},
	} {
		if got := permits(&natsd.SubjectPermission{Allow: tc.allow, Deny: tc.deny}, "a.b.>"); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestTargets_OfServicesWithPoliciesAreCheckedAgainstThePermissions(t *testing.T) {
	set, err := policy.Parse("p.yaml", []byte(`
default: {maxAttempts: 3}
billing: {maxAttempts: 4}
jobs: {delivery: publish}
vault: {target: "safe.open"}
`))
	if err != nil {
		t.Fatal(err)
	}
	known := targets(set, []adoption.Adoption{{Consumer: "worker", Target: "orders.process"}, {Consumer: "other"}})
	want := []handlers.Permission{
		{Subject: "orders.process", Purpose: "the target of consumer worker"},
		{Subject: "billing.*", Purpose: "the targets of service billing"},
		{Subject: "safe.open", Purpose: "the targets of service vault"},
	}
	if !reflect.DeepEqual(known, want) {
		t.Errorf("the known targets are %+v, want %+v", known, want)
	}
	for name, tc := range map[string]struct {
		p    *natsd.SubjectPermission
		want Finding
	}{
		"a target denied": {&natsd.SubjectPermission{Deny: []string{"safe.>"}}, Finding{
			Warn, "targets", "the user may not publish to safe.open (the targets of service vault)",
			"grant that to the service's user, or its operations become dead letters; replay them then",
		}},
		"all allowed":  {&natsd.SubjectPermission{Allow: []string{">"}}, Finding{OK, "targets", "the user may publish to the 3 targets that policies and adoptions name", ""}},
		"nothing said": {nil, Finding{OK, "targets", "the user may publish to the 3 targets that policies and adoptions name", ""}},
	} {
		var d Diagnosis
		d.targets(tc.p, known)
		if len(d.Findings) != 1 || d.Findings[0] != tc.want {
			t.Errorf("%s: found %+v, want %+v", name, d.Findings, tc.want)
		}
	}
	var none Diagnosis
	if none.targets(nil, targets(nil, nil)); len(none.Findings) != 0 {
		t.Errorf("without a known target found %+v, want nothing", none.Findings)
	}
}
