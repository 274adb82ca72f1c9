package wording

import "testing"

func TestShort_IsEasyToRead(t *testing.T) {
	for ms, want := range map[float64]string{0.25: "250µs", 12.5: "12.5ms", 1500: "1.5s", 90_000: "1m30s"} {
		if got := Short(ms); got != want {
			t.Errorf("Short(%v) = %q, want %q", ms, got, want)
		}
	}
}
