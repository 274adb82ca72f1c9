package events

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/rebound-mq/rebound/internal/clip"
)

// ParseTime parses an RFC 3339 time. T and Z may be small letters, and a space may stand for the
// T. A leap second, 23:59:60 UTC on the last day of a month, is the moment at which the next day
// begins. A time without a zone is an error, because the moment that it means is not known.
func ParseTime(value string) (time.Time, error) {
	text, leap := []byte(value), false
	if len(text) > 20 || len(text) == 20 && (text[19] == 'Z' || text[19] == 'z') {
		if text[10] == 't' || text[10] == ' ' {
			text[10] = 'T'
		}
		if last := len(text) - 1; text[last] == 'z' {
			text[last] = 'Z'
		}
		if leap = string(text[16:19]) == ":60"; leap {
			copy(text[16:19], ":59")
		}
	}
	var at time.Time
	if err := at.UnmarshalText(text); err != nil {
		return time.Time{}, fmt.Errorf("%q is no RFC 3339 time%s", clip.Text(value, 80), withoutZone(value))
	}
	if leap {
		return afterLeap(at, value)
	}
	return at, nil
}

// withoutZone explains that a value lacks a time zone, if that is all that it lacks.
func withoutZone(value string) string {
	for _, layout := range []string{"2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02"} {
		if _, err := time.Parse(layout, strings.ToUpper(value)); err == nil {
			return ": it names no time zone, such as Z or +02:00"
		}
	}
	return ""
}

// afterLeap returns the moment that a leap second means, given the second before it.
func afterLeap(before time.Time, value string) (time.Time, error) {
	at := before.Add(time.Second)
	if utc := at.UTC(); utc.Day() != 1 || utc.Hour() != 0 || utc.Minute() != 0 || utc.Second() != 0 {
		return time.Time{}, fmt.Errorf("%q has a second 60, which only the last minute of a month in UTC can have", clip.Text(value, 80))
	}
	return at, nil
}

// ParseRetryAfter parses a Retry-After value: seconds, an HTTP date or an RFC 3339 time. It
// returns the earliest time for another attempt, counting seconds from now; the zero time for an
// empty value. More than 366 days is an error, and so is a date whose time zone is not given or
// has no fixed meaning.
func ParseRetryAfter(value string, now time.Time) (time.Time, error) {
	value = strings.TrimSpace(value)
	if value == "" {
		return time.Time{}, nil
	}
	if seconds, err := strconv.ParseFloat(value, 64); err == nil {
		if !(seconds >= 0 && seconds <= 366*24*3600) {
			return time.Time{}, fmt.Errorf("retry-after %q is not between 0 seconds and a year", clip.Text(value, 80))
		}
		return now.Add(time.Duration(seconds * float64(time.Second))), nil
	}
	at, err := parseDate(value, now)
	if err != nil {
		return time.Time{}, fmt.Errorf("retry-after %w", err)
	}
	if at = InUTC(at); at.After(now.Add(366 * 24 * time.Hour)) {
		return time.Time{}, fmt.Errorf("retry-after %q is more than a year away", clip.Text(value, 80))
	}
	return at, nil // the zero time if it is long past
}

// The forms of a date but for the zone that ends it: those of RFC 5322, which HTTP prefers, and of
// RFC 850. dates2 have a year of two digits.
var (
	dates  = []string{"Mon, 2 Jan 2006 15:04:05", "2 Jan 2006 15:04:05", "Mon, 2 Jan 2006 15:04", "2 Jan 2006 15:04", "Mon, 2-Jan-2006 15:04:05", "Monday, 2-Jan-2006 15:04:05"}
	dates2 = []string{"Monday, 2-Jan-06 15:04:05", "Mon, 2-Jan-06 15:04:05", "Mon, 2 Jan 06 15:04:05", "2 Jan 06 15:04:05", "Mon, 2 Jan 06 15:04", "2 Jan 06 15:04"}
)

// parseDate parses an HTTP date or an RFC 3339 time. now decides the century of a year of two
// digits.
func parseDate(value string, now time.Time) (time.Time, error) {
	if value[0] >= '0' && value[0] <= '9' && len(value) > 4 && value[4] == '-' {
		return ParseTime(value)
	}
	text, leap := value, strings.Contains(value, ":60")
	if leap {
		text = strings.Replace(text, ":60", ":59", 1)
	}
	at, err := parseHTTPDate(text, now)
	switch {
	case errors.Is(err, errNoDate):
		return time.Time{}, fmt.Errorf("%q is neither seconds nor a date", clip.Text(value, 80))
	case err != nil:
		return time.Time{}, fmt.Errorf("%q %w", clip.Text(value, 80), err)
	case leap:
		return afterLeap(at, value)
	}
	return at, nil
}

var (
	errNoDate = errors.New("is no date")
	errNoZone = errors.New("names no time zone, such as GMT or +0200")
)

// parseHTTPDate parses a date that is not in RFC 3339.
func parseHTTPDate(text string, now time.Time) (time.Time, error) {
	if at, err := time.Parse(time.ANSIC, text); err == nil {
		return at, nil // HTTP gives this form in GMT
	}
	if _, err := parseLocal(text, now); err == nil {
		return time.Time{}, errNoZone
	}
	end := strings.LastIndexByte(text, ' ')
	if end < 0 {
		return time.Time{}, errNoDate
	}
	local, err := parseLocal(strings.TrimRight(text[:end], " "), now)
	if err != nil {
		return time.Time{}, err
	}
	offset, err := zoneOffset(text[end+1:])
	return local.Add(-offset), err
}

// parseLocal parses a date without its zone, as if it were in UTC.
func parseLocal(text string, now time.Time) (time.Time, error) {
	for _, layout := range dates {
		if at, err := time.Parse(layout, text); err == nil {
			return at, nil
		}
	}
	for _, layout := range dates2 {
		if at, err := time.Parse(layout, text); err == nil {
			return inCentury(at, now)
		}
	}
	return time.Time{}, errNoDate
}

// inCentury returns a date whose year has two digits in the century that brings it within fifty
// years of now, as RFC 9110 demands.
func inCentury(at, now time.Time) (time.Time, error) {
	year := now.UTC().Year()
	year += at.Year()%100 - year%100
	switch {
	case year > now.UTC().Year()+50:
		year -= 100
	case year < now.UTC().Year()-50:
		year += 100
	}
	in := time.Date(year, at.Month(), at.Day(), at.Hour(), at.Minute(), at.Second(), 0, time.UTC)
	if in.Day() != at.Day() {
		return time.Time{}, errNoDate // 29 February of another year
	}
	return in, nil
}

// zones are the names of time zones with a fixed meaning, from RFC 5322, with their offsets from
// UTC in hours. Others mean several zones each.
var zones = map[string]int{
	"GMT": 0, "UTC": 0, "UT": 0, "Z": 0,
	"EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8, "PDT": -7,
}

// zoneOffset returns the offset of a time zone from UTC.
func zoneOffset(zone string) (time.Duration, error) {
	if hours, ok := zones[strings.ToUpper(zone)]; ok {
		return time.Duration(hours) * time.Hour, nil
	}
	for _, layout := range []string{"-0700", "-07:00"} {
		if at, err := time.Parse(layout, zone); err == nil {
			_, offset := at.Zone()
			if max(offset, -offset) < 24*3600 {
				return time.Duration(offset) * time.Second, nil
			}
		}
	}
	return 0, fmt.Errorf("names the time zone %q, which has no fixed meaning; use GMT", clip.Text(zone, 20))
}
