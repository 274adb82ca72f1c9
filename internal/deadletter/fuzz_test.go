package deadletter

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/strictjson"
	"github.com/rebound-mq/rebound/schemas"
)

// FuzzFilter reads any text as the filter of a request. What is accepted conforms
// to the published schema, selects on one subject, and reads the same again.
func FuzzFilter(f *testing.F) {
	for _, seed := range []string{
		`{"ids":["0f1e2d3c4b5a69788796a5b4c3d2e1f0"],"service":"billing","operation":"charge","reason":"exhausted","errorCode":"503","since":"2026-03-01T12:00:00Z","until":"2026-03-01T13:00:00.5+01:00","after":17,"limit":100}`,
		`{}`, `null`, `[]`, `{"ids":[]}`, `{"ids":["*"]}`, `{"ids":null}`, `{"service":"-invalid-"}`, `{"service":"*"}`, `{"operation":">"}`, `{"reason":""}`, `{"reason":"bored"}`, `{"limit":-1}`,
		`{"limit":1e2}`, `{"limit":2147483648}`, `{"after":18446744073709551615}`, `{"after":-1}`, `{"since":"2026-03-01T12:00:00Z","until":"2026-03-01T12:00:00Z"}`, `{"since":"yesterday"}`,
		`{"Service":"a"}`, `{"service":"a","service":"b"}`, `{"errorCode":"\ud800"}`, `{} {}`, "{\"errorCode\":\"\xff\"}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var filter events.DeadLetterFilter
		if strictjson.Unmarshal(data, &filter) != nil || filter.Check() != nil {
			return
		}
		subject := events.Subjects{}.DeadLetters(filter.Service, filter.Operation, "")
		if strings.Count(subject, ".") != 4 || strings.ContainsAny(subject, " >\r\n") {
			t.Fatalf("%s selects on %q", data, subject)
		}
		written, err := json.Marshal(filter)
		if err != nil {
			t.Fatal(err)
		}
		if filter.Limit <= 1000 {
			if err := schemas.Validate("deadList.request", written); err != nil {
				t.Fatalf("%s is accepted, and of %s the schema says %v", data, written, err)
			}
		}
		var again events.DeadLetterFilter
		if err := strictjson.Unmarshal(written, &again); err != nil || again.Check() != nil || again.Everything() != filter.Everything() {
			t.Fatalf("%s is read again as %+v, %v", written, again, err)
		}
		if twice, _ := json.Marshal(again); !reflect.DeepEqual(twice, written) {
			t.Fatalf("%s is written again as %s", written, twice)
		}
		for _, d := range []*events.DeadLetter{{}, {Reason: events.ReasonExhausted, State: &events.Operation{}}} {
			if matches := matches(filter, d); matches && filter.Reason != "" && filter.Reason != d.Reason {
				t.Fatalf("%s selects %+v", written, d)
			}
		}
	})
}
