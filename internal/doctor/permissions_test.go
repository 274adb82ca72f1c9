package doctor

import (
	"testing"

	natsd "github.com/nats-io/nats-server/v2/server"
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
