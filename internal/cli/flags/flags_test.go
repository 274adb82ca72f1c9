package flags

import (
	"testing"
	"time"
)

func TestWhen_IsHowLongAgoOrATime(t *testing.T) {
	now := time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"2h":                   now.Add(-2 * time.Hour),
		"7d":                   now.AddDate(0, 0, -7),
		"1d12h":                now.Add(-36 * time.Hour),
		"0s":                   now,
		"2026-01-02T03:04:05Z": time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	} {
		if got, err := parseWhen(text, now); err != nil || !got.Equal(want) {
			t.Errorf("parseWhen(%q) = %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "-2h", "yesterday", "7", "2026-01-02", "99999999999d"} {
		if got, err := parseWhen(text, now); err == nil {
			t.Errorf("parseWhen(%q) = %v, want an error", text, got)
		}
	}
}

func TestRate_IsCountByUnit(t *testing.T) {
	for text, want := range map[string]float64{"500/s": 500, "30/m": 0.5, "0.5/s": 0.5, "3600/h": 1} {
		var r Rate
		if err := r.Set(text); err != nil || float64(r.limit) != want {
			t.Errorf("%q is %v, %v; want %v", text, r.limit, err, want)
		}
	}
	for _, text := range []string{"", "500", "0/s", "-1/s", "NaN/s", "Inf/s", "1/d", "/s"} {
		if err := new(Rate).Set(text); err == nil {
			t.Errorf("%q is taken for a rate", text)
		}
	}
}
