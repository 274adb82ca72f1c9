package policies

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/scheduler/policy"
)

// entry is a value of the bucket.
type entry struct {
	jetstream.KeyValueEntry
	value     []byte
	operation jetstream.KeyValueOp
}

func (e entry) Value() []byte                   { return e.value }
func (e entry) Operation() jetstream.KeyValueOp { return e.operation }
func (e entry) Revision() uint64                { return 7 }
func (e entry) Created() time.Time              { return time.Unix(1, 0) }

// FuzzRevision takes any value of the bucket as a revision of the policies. The issues of a
// refused one name the revision, and so do the origins of an accepted one.
func FuzzRevision(f *testing.F) {
	for _, seed := range []string{"# fewer attempts\ndefault: {maxAttempts: 2}", "", "#", "#\r", "a: {", "\xff", "default: {maxAttempts: 0}", "# a\u2028b\ndefault: {}", strings.Repeat("#", 300)} {
		f.Add([]byte(seed), uint8(jetstream.KeyValuePut))
	}
	f.Add([]byte(nil), uint8(jetstream.KeyValuePut))
	f.Add([]byte("default: {}"), uint8(jetstream.KeyValueDelete))
	f.Fuzz(func(t *testing.T, value []byte, operation uint8) {
		r := revision(entry{value: value, operation: jetstream.KeyValueOp(operation)})
		if put := jetstream.KeyValueOp(operation) == jetstream.KeyValuePut; r.Removed() == put || put && string(r.Source) != string(value) {
			t.Fatalf("%q is the revision %+v", value, r)
		}
		if strings.ContainsAny(r.Comment(), "\r\n") {
			t.Fatalf("the comment of %q is %q", value, r.Comment())
		}
		set, err := r.Parse()
		if err != nil {
			for _, issue := range policy.Issues(err) {
				if issue.File != r.Name() {
					t.Fatalf("the issue %v names %q", issue, issue.File)
				}
			}
			return
		}
		if string(set.Source()) != string(r.Source) || set.Name() != r.Name() {
			t.Fatalf("%q is in force as %s: %q", value, set.Name(), set.Source())
		}
	})
}
