package ledger

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/rebound-mq/rebound/scheduler/gate"
)

// FuzzDecode reads any text as a stored ledger. An accepted one gives nobody more than the
// limits, and survives a round trip.
func FuzzDecode(f *testing.F) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	limits := gate.Settings{MaxConcurrent: 7, PerMinute: 100, PerHour: 1000}
	stored, _ := gate.NewLedger().Renew(gate.Claim{Instance: "a", InFlight: 2, Waiting: 50}, limits, now)
	stored, _ = stored.Renew(gate.Claim{Instance: "b", Waiting: 1}, limits, now)
	whole, err := json.Marshal(stored)
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{
		string(whole), "", "{}", "null", "[]", `{"minute":{"width":1},"hour":{"width":1}}`,
		`{"minute":{"width":1000000000,"latest":9223372036854775807,"counts":[4294967295]},"hour":{"width":60000000000,"latest":-9223372036854775808}}`,
		`{"minute":{"width":1000000000},"hour":{"width":60000000000},"shares":[{"instance":"b","concurrent":-5,"demand":-9223372036854775808,"expires":"9999-12-31T23:59:59Z"}]}`,
		`{"minute":{"width":1000000000},"hour":{"width":60000000000},"uses":{"asked":[9223372036854775807,1,-9223372036854775808,0],"went":[9223372036854775807,-1,0,1]}}`,
		string(whole) + "x",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := Decode(data)
		if err != nil {
			return
		}
		after, lease := l.Renew(gate.Claim{Instance: "a", InFlight: 1, Waiting: 1000, Now: now.Add(-time.Hour)}, limits, now)
		if lease.Concurrent < 0 || lease.Concurrent > limits.MaxConcurrent || lease.Budget < 0 || lease.Budget > limits.PerMinute || lease.Left < 0 || lease.Left > limits.PerMinute {
			t.Fatalf("%q gives the lease %+v", data, lease)
		}
		written, err := json.Marshal(after)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Decode(written)
		if err != nil {
			t.Fatalf("%q becomes %s, which cannot be read: %v", data, written, err)
		}
		if twice, err := json.Marshal(again); err != nil || !bytes.Equal(written, twice) {
			t.Fatalf("%s is written again as %s, %v", written, twice, err)
		}
	})
}
