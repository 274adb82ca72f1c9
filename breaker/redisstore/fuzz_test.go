package redisstore

import (
	"testing"

	"github.com/rebound-mq/rebound/breaker"
)

// records are circuits as the stores keep them.
var records = []string{
	`{"key":"pay:charge","v":9,"state":"HALF_OPEN","fails":5,"last":1772366400000,"next":1772366430000,"tries":2,"oks":1,"n":100,"nf":7,"ms":12.5,"gen":3,"cause":"timeout","at":1772366400000,"by":"i1","probes":[{"id":"p","exp":1772366460000}],"win":[{"t":1772366400000,"s":3,"f":1}]}`,
	`{"key":"a:b","state":"OPEN","held":true,"note":"moved","next":-1}`, `{}`, `null`, `[]`, `{"state":"AJAR"}`, `{"state":"CLOSED","gen":18446744073709551615,"fails":-9}`,
	`{"state":"OPEN","next":9223372036854775807,"last":-9223372036854775808}`, `{"key":"a:b","state":"OPEN"} {}`, `{"ms":1e400}`, `{"key":"\ud800"}`,
}

// FuzzReadAnswer reads any text as the answer of the script in Redis.
func FuzzReadAnswer(f *testing.F) {
	f.Add(`{"now":1772366400000,"lost":false,"granted":true,"next":0,"written":true,"changed":true,"from":"OPEN","circuit":` + records[0] + `}`)
	for _, seed := range append(records, "", "OK", `{"circuit":null}`, `{"granted":1}`, `{"now":1e3,"from":"OPEN"}`, `{"from":""}`) {
		f.Add(seed)
		f.Add(`{"from":"CLOSED","circuit":` + seed + `}`)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := readAnswer(text, breaker.Event{Kind: breaker.Acquire, Probe: "p"})
		if err != nil {
			return
		}
		if r.Probe != "" && (!r.Granted || !r.Written) || r.From > breaker.HalfOpen || r.Circuit.State > breaker.HalfOpen {
			t.Fatalf("%q is read as %+v", text, r)
		}
		if _, err := breaker.Encode(&r.Circuit); err != nil {
			t.Fatal(err)
		}
	})
}
