package natsconn

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"
)

func TestStoresFiles_OneTierWithRoomIsEnough(t *testing.T) {
	tier := func(most int64) jetstream.Tier {
		return jetstream.Tier{Limits: jetstream.AccountLimits{MaxStore: most}}
	}
	for _, tc := range []struct {
		name string
		info jetstream.AccountInfo
		want bool
	}{
		{"no tiers, nothing", jetstream.AccountInfo{Tier: tier(0)}, false},
		{"no tiers, unlimited", jetstream.AccountInfo{Tier: tier(-1)}, true},
		{"tiers without any", jetstream.AccountInfo{Tiers: map[string]jetstream.Tier{"R1": tier(0), "R3": tier(0)}}, false},
		{"one tier of two", jetstream.AccountInfo{Tiers: map[string]jetstream.Tier{"R1": tier(0), "R3": tier(1 << 30)}}, true},
	} {
		if got := storesFiles(&tc.info); got != tc.want {
			t.Errorf("%s: %t, want %t", tc.name, got, tc.want)
		}
	}
}
