package config_test

import (
	"testing"
	"time"

	"github.com/rebound-mq/rebound/internal/config"
)

func TestParseDuration_AcceptsDays(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "90s": 90 * time.Second, "7d": 168 * time.Hour, "1d12h": 36 * time.Hour, " 5ms ": 5 * time.Millisecond,
		"106751d": 106751 * 24 * time.Hour,
	} {
		if got, err := config.ParseDuration(text); err != nil || got != want {
			t.Errorf("%q is %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "d", "7", "1.5d", "-1d", "7d-1h", "1h7d", "106752d", "106751d24h", "d1h"} {
		if got, err := config.ParseDuration(text); err == nil {
			t.Errorf("%q is %v, want an error", text, got)
		}
	}
}

func TestParseBytes_TakesUnitsInAnyCase(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "1048576": 1 << 20, "256MiB": 256 << 20, "256 mib": 256 << 20, "1.5GB": 1_500_000_000,
		"1K": 1024, "2kb": 2000, "9223372036854775807": 1<<63 - 1, "1t": 1 << 40,
	} {
		if got, err := config.ParseBytes(text); err != nil || got != want {
			t.Errorf("%q is %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "MiB", "-1", "1e400", "1 XB", "9223372036854775808", "8388608TiB", "1..5G", "NaN", "+Inf"} {
		if got, err := config.ParseBytes(text); err == nil {
			t.Errorf("%q is %d, want an error", text, got)
		}
	}
}
