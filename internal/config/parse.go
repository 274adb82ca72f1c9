package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/scheduler/gate"
)

// ParseDuration reads a Go duration, optionally with days before it: "90s",
// "7d", "1d12h". A negative one is an error.
func ParseDuration(text string) (time.Duration, error) {
	bad := fmt.Errorf(`%q is not a duration, such as "500ms", "90s", "2h" or "7d"`, text)
	rest := strings.TrimSpace(text)
	var days time.Duration
	if before, after, found := strings.Cut(rest, "d"); found {
		n, err := strconv.ParseUint(before, 10, 32)
		if err != nil {
			return 0, bad
		}
		const day = 24 * time.Hour
		if n > uint64(1<<63-1)/uint64(day) {
			return 0, fmt.Errorf("%q is longer than 292 years", text)
		}
		days, rest = time.Duration(n)*day, after
		if rest == "" {
			return days, nil
		}
	}
	d, err := time.ParseDuration(rest)
	if err != nil {
		return 0, bad
	}
	if d < 0 {
		return 0, fmt.Errorf("%q is negative", text)
	}
	if days+d < days {
		return 0, fmt.Errorf("%q is longer than 292 years", text)
	}
	return days + d, nil
}

var units = map[string]int64{
	"": 1, "b": 1,
	"k": 1 << 10, "kib": 1 << 10, "kb": 1e3,
	"m": 1 << 20, "mib": 1 << 20, "mb": 1e6,
	"g": 1 << 30, "gib": 1 << 30, "gb": 1e9,
	"t": 1 << 40, "tib": 1 << 40, "tb": 1e12,
}

// ParseBytes reads a number of bytes, optionally with a unit: "1048576",
// "256MiB", "1.5GB". K, M, G and T alone are powers of 1024, as in NATS.
func ParseBytes(text string) (int64, error) {
	trimmed := strings.TrimSpace(text)
	end := strings.LastIndexFunc(trimmed, func(r rune) bool { return '0' <= r && r <= '9' || r == '.' }) + 1
	unit, known := units[strings.ToLower(strings.TrimSpace(trimmed[end:]))]
	if n, err := strconv.ParseInt(trimmed[:end], 10, 64); err == nil && known && n >= 0 {
		if n > (1<<63-1)/unit {
			return 0, fmt.Errorf("%q is more bytes than a number can hold", text)
		}
		return n * unit, nil
	}
	f, err := strconv.ParseFloat(trimmed[:end], 64)
	if err != nil || !known || f < 0 || f*float64(unit) >= 1<<63 {
		return 0, fmt.Errorf(`%q is not a number of bytes, such as "1048576", "256MiB" or "1.5GB"`, text)
	}
	return int64(f * float64(unit)), nil
}

func setText[T ~string](to *T, s string) error {
	*to = T(s)
	return nil
}

func setURLs(to *[]URL, s string) error {
	var urls []URL
	for part := range strings.SplitSeq(s, ",") {
		if strings.TrimSpace(part) == "" {
			continue
		}
		u, err := ParseURL(part)
		if err != nil {
			return err
		}
		urls = append(urls, u)
	}
	*to = urls
	return nil
}

func setRedis(to *URL, s string) error {
	if strings.TrimSpace(s) == "" {
		*to = URL{}
		return nil
	}
	u, err := ParseRedisURL(s)
	if err != nil {
		return err
	}
	*to = u
	return nil
}

func setContext(to *string, s string) error {
	if strings.ContainsAny(s, `/\`) || strings.Contains(s, "..") {
		return fmt.Errorf("%q is not the name of a context; `nats context ls` shows them", s)
	}
	*to = s
	return nil
}

// seed matches an nkey seed, and credential the contents of a credentials file:
// secrets that a user may give in place of the path.
var (
	seed       = regexp.MustCompile(`^S[A-Z][A-Z2-7]{40,}$`)
	credential = regexp.MustCompile(`-----BEGIN|^eyJ`)
)

func setPath(to *string, s string) error {
	if seed.MatchString(s) || credential.MatchString(s) {
		return errors.New("this is the secret itself; give the path of the file that holds it")
	}
	if strings.ContainsRune(s, 0) {
		return fmt.Errorf("%q is not a path", s)
	}
	*to = s
	return nil
}

var prefixPattern = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,31}$`)

func setPrefix(to *string, s string) error {
	if !prefixPattern.MatchString(s) {
		return fmt.Errorf("%q cannot begin subjects and streams; use up to 32 of a-z, 0-9, _ and -, a letter first", s)
	}
	if err := events.CheckPrefix(s); err != nil {
		return err
	}
	*to = s
	return nil
}

func setAddress(to *string, s string) error {
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		return fmt.Errorf("%q is not an address, such as 127.0.0.1:4222", s)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%q has the port %q; a port is a number from 0 to 65535", s, port)
	} else if n == 0 && port != "0" {
		return fmt.Errorf("%q has the port %q; write 0 for a free one", s, port)
	}
	*to = s
	return nil
}

func setOptionalAddress(to *string, s string) error {
	if s == off {
		*to = ""
		return nil
	}
	if err := setAddress(to, s); err != nil {
		return fmt.Errorf(`%w, or "off"`, err)
	}
	return nil
}

func setNumber(to *int, s string, least, most int) error {
	n, err := strconv.Atoi(strings.TrimSpace(s))
	if err != nil || n < least || n > most {
		return fmt.Errorf("%q is not a whole number from %d to %d", s, least, most)
	}
	*to = n
	return nil
}

// off is the value of a limit that is not in force.
const off = "off"

// setShare reads a share above 0 and up to 1, or off.
func setShare(to *float64, s string) error {
	if s == off {
		*to = gate.Off
		return nil
	}
	share, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	if err != nil || !(share > 0 && share <= 1) {
		return fmt.Errorf(`%q is not a number above 0 and up to 1, or "off"`, s)
	}
	*to = share
	return nil
}

// setLimit reads a whole number above 0, or off.
func setLimit(to *int, s string) error {
	if s == off {
		*to = gate.Off
		return nil
	}
	if err := setNumber(to, s, 1, 1_000_000_000); err != nil {
		return fmt.Errorf(`%w, or "off"`, err)
	}
	return nil
}

// setDelay reads a duration of a millisecond at least, or off.
func setDelay(to *time.Duration, s string) error {
	if s == off {
		*to = gate.Off
		return nil
	}
	d, err := ParseDuration(s)
	if err != nil {
		return fmt.Errorf(`%w, or "off"`, err)
	}
	if d < time.Millisecond {
		return fmt.Errorf(`%q is less than a millisecond; "off" is for no limit`, s)
	}
	*to = d
	return nil
}

func setBytes(to *int64, s string, least int64) error {
	n, err := ParseBytes(s)
	if err != nil {
		return err
	}
	if n < least {
		return fmt.Errorf("%q is less than %d bytes", s, least)
	}
	*to = n
	return nil
}

func setSync(c *Config, s string) error {
	if s == "always" {
		c.SyncAlways, c.SyncInterval = true, 0
		return nil
	}
	d, err := ParseDuration(s)
	if err != nil {
		return fmt.Errorf(`%w, or "always"`, err)
	}
	if d < time.Millisecond {
		return fmt.Errorf(`%q is less than a millisecond; use "always" to lose nothing`, s)
	}
	c.SyncAlways, c.SyncInterval = false, d
	return nil
}

// leastAge is the shortest age limit of a stream: JetStream refuses one below
// the time for which it remembers message ids.
const leastAge = 2 * time.Minute

func setAge(to *time.Duration, s string) error {
	d, err := ParseDuration(s)
	if err != nil {
		return err
	}
	if d > 0 && d < leastAge {
		return fmt.Errorf("%q is less than %v, for which message ids are remembered; 0 means for ever", s, leastAge)
	}
	*to = d
	return nil
}

func setLease(to *time.Duration, s string) error {
	d, err := ParseDuration(s)
	if err != nil {
		return err
	}
	if d < 2*time.Second || d > time.Hour {
		return fmt.Errorf("%q is not from 2s to 1h", s)
	}
	*to = d
	return nil
}

func setForget(to *time.Duration, s string) error {
	d, err := ParseDuration(s)
	if err != nil {
		return err
	}
	if d < time.Second {
		return fmt.Errorf("%q is less than 1s", s)
	}
	*to = d
	return nil
}

func setLevel(to *slog.Level, s string) error {
	switch strings.ToLower(s) {
	case "debug":
		*to = slog.LevelDebug
	case "info":
		*to = slog.LevelInfo
	case "warn", "warning":
		*to = slog.LevelWarn
	case "error":
		*to = slog.LevelError
	default:
		return fmt.Errorf("%q is not a level; use debug, info, warn or error", s)
	}
	return nil
}

func setOneOf(to *string, s string, choices ...string) error {
	for _, c := range choices {
		if s == c {
			*to = s
			return nil
		}
	}
	return fmt.Errorf("%q is not one of %s", s, strings.Join(choices, ", "))
}
