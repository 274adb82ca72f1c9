package events_test

import (
	"strings"
	"testing"
	"time"

	"github.com/rebound-mq/rebound/events"
)

func TestParseTime_IsTheMomentThatIsMeantOrAnError(t *testing.T) {
	utc := func(text string) time.Time {
		at, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	for value, want := range map[string]time.Time{
		"2026-03-01T12:00:30Z":           utc("2026-03-01T12:00:30Z"),
		"2026-03-01t12:00:30z":           utc("2026-03-01T12:00:30Z"),
		"2026-03-01 12:00:30.25z":        utc("2026-03-01T12:00:30.25Z"),
		"2026-03-01t12:00:30+02:00":      utc("2026-03-01T10:00:30Z"),
		"2026-03-01T12:00:30-00:00":      utc("2026-03-01T12:00:30Z"),
		"2016-12-31T23:59:60Z":           utc("2017-01-01T00:00:00Z"),
		"2016-12-31t23:59:60.5z":         utc("2017-01-01T00:00:00.5Z"),
		"2017-01-01T00:59:60+01:00":      utc("2017-01-01T00:00:00Z"),
		"2016-12-31T15:59:60.25-08:00":   utc("2017-01-01T00:00:00.25Z"),
		"2026-03-01T12:00:30.999999999Z": utc("2026-03-01T12:00:30.999999999Z"),
	} {
		if got, err := events.ParseTime(value); err != nil || !got.Equal(want) {
			t.Errorf("%q is read as %s, %v, want %s", value, got, err, want)
		}
	}
	for value, want := range map[string]string{
		"2026-03-01T12:00:30":       "names no time zone",
		"2026-03-01 12:00:30":       "names no time zone",
		"2026-03-01t12:00":          "names no time zone",
		"2026-03-01":                "names no time zone",
		"2026-03-01T12:00:60Z":      "has a second 60",
		"2016-12-30T23:59:60Z":      "has a second 60",
		"2016-12-31T23:59:60+02:00": "has a second 60",
		"26-03-01T12:00:30Z":        "is no RFC 3339 time",
		"2026-03-01T12:00:30+25:00": "is no RFC 3339 time",
		"2026-03-01T25:00:30Z":      "is no RFC 3339 time",
		"2026-03-01T12:00:61Z":      "is no RFC 3339 time",
		"2026-03-01T12:00:30 CET":   "is no RFC 3339 time",
		"":                          "is no RFC 3339 time",
		"tomorrow":                  "is no RFC 3339 time",
	} {
		if got, err := events.ParseTime(value); err == nil || !got.IsZero() || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is read as %s, %v, want an error with %q", value, got, err, want)
		}
	}
}

func TestParseRetryAfter_DatesAreTheMomentThatIsMeantOrAnError(t *testing.T) {
	at := func(text string) time.Time {
		at, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	for value, want := range map[string]time.Time{
		"Sun, 01 Mar 2026 12:30:00 GMT":   at("2026-03-01T12:30:00Z"),
		"Sun, 1 Mar 2026 12:30:00 utc":    at("2026-03-01T12:30:00Z"),
		"Sun, 01 Mar 2026 12:30:00 EST":   at("2026-03-01T17:30:00Z"),
		"Sun, 01 Mar 2026 12:30:00 PDT":   at("2026-03-01T19:30:00Z"),
		"Sun, 01 Mar 2026 14:30:00 +0200": at("2026-03-01T12:30:00Z"),
		"01 Mar 2026 14:30 +02:00":        at("2026-03-01T12:30:00Z"),
		"Sunday, 01-Mar-26 12:30:00 GMT":  at("2026-03-01T12:30:00Z"),
		"Sunday, 01-Mar-26 12:30:00 MST":  at("2026-03-01T19:30:00Z"),
		"Sun, 01 Mar 26 12:30:00 GMT":     at("2026-03-01T12:30:00Z"),
		"Monday, 01-Mar-77 12:30:00 GMT":  at("1977-03-01T12:30:00Z"),
		"Sunday, 06-Nov-94 08:49:37 GMT":  at("1994-11-06T08:49:37Z"),
		"Sun Mar  1 12:30:00 2026":        at("2026-03-01T12:30:00Z"),
		"Wed, 31 Dec 2025 23:59:60 GMT":   at("2026-01-01T00:00:00Z"),
		"2026-03-01t12:30:00z":            at("2026-03-01T12:30:00Z"),
		"2026-03-01T13:30:00+01:00":       at("2026-03-01T12:30:00Z"),
		"1_800":                           at("2026-03-01T12:30:00Z"),
	} {
		if got, err := events.ParseRetryAfter(value, received); err != nil || !got.Equal(want) {
			t.Errorf("%q is read as %s, %v, want %s", value, got, err, want)
		}
	}
	for value, want := range map[string]string{
		"Sun, 01 Mar 2026 12:30:00 CET":     `names the time zone "CET", which has no fixed meaning`,
		"Sun, 01 Mar 2026 12:30:00 BST":     `names the time zone "BST"`,
		"Sunday, 01-Mar-26 12:30:00 IST":    `names the time zone "IST"`,
		"Sun, 01 Mar 2026 12:30:00 +2500":   `names the time zone "+2500"`,
		"Sun, 01 Mar 2026 12:30:00":         "names no time zone",
		"Sunday, 01-Mar-26 12:30:00":        "names no time zone",
		"2026-03-01T12:30:00":               "names no time zone",
		"2026-03-01 12:30:00":               "names no time zone",
		"Sun, 01 Mar 2026 12:30:60 GMT":     "has a second 60",
		"Wednesday, 01-Mar-76 12:30:00 GMT": "more than a year away",
		"Sun, 32 Mar 2026 12:30:00 GMT":     "neither seconds nor a date",
		"Thursday, 29-Feb-23 12:30:00 GMT":  "neither seconds nor a date",
		"soon":                              "neither seconds nor a date",
	} {
		if got, err := events.ParseRetryAfter(value, received); err == nil || !got.IsZero() || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is read as %s, %v, want an error with %q", value, got, err, want)
		}
	}
}
