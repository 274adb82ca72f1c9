package config

import (
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
)

// redacted stands for a secret wherever values are shown.
const redacted = "[redacted]"

// Secret is text that is never shown: printing, logging or encoding it gives
// "[redacted]".
type Secret string

// Reveal returns the text itself.
func (s Secret) Reveal() string { return string(s) }

// String returns "[redacted]", or nothing for an empty secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// Format implements [fmt.Formatter], so that no verb shows the text.
func (s Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, s.String()) }

// MarshalText implements [encoding.TextMarshaler].
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue implements [slog.LogValuer].
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// URL is the address of a NATS server or of Redis. Printing, logging or encoding
// it hides its credentials.
type URL struct{ raw string }

// ParseURL reads host, host:port or a URL with the scheme nats, tls, ws or wss.
func ParseURL(text string) (URL, error) {
	text = strings.TrimSpace(text)
	full := text
	if !strings.Contains(full, "://") {
		full = "nats://" + full
	}
	u, err := url.Parse(full)
	if err != nil {
		return URL{}, fmt.Errorf("%q is not a server's URL, such as nats://host:4222", redactURL(text))
	}
	switch u.Scheme {
	case "nats", "tls", "ws", "wss":
	default:
		return URL{}, fmt.Errorf("%q has the scheme %q; use nats, tls, ws or wss", redactURL(text), u.Scheme)
	}
	if u.Hostname() == "" {
		return URL{}, fmt.Errorf("%q names no host", redactURL(text))
	}
	if p := u.Port(); p != "" {
		if _, err := strconv.ParseUint(p, 10, 16); err != nil {
			return URL{}, fmt.Errorf("%q has the port %q; a port is a number from 1 to 65535", redactURL(text), p)
		}
	}
	return URL{raw: full}, nil
}

// ParseRedisURL reads a URL with the scheme redis or rediss.
func ParseRedisURL(text string) (URL, error) {
	text = strings.TrimSpace(text)
	u, err := url.Parse(text)
	if err != nil {
		return URL{}, fmt.Errorf("%q is not the URL of a Redis, such as redis://host:6379/0", redactURL(text))
	}
	if u.Scheme != "redis" && u.Scheme != "rediss" {
		return URL{}, fmt.Errorf("%q has the scheme %q; use redis, or rediss for TLS", redactURL(text), u.Scheme)
	}
	if u.Hostname() == "" {
		return URL{}, fmt.Errorf("%q names no host", redactURL(text))
	}
	return URL{raw: text}, nil
}

func joinURLs(urls []URL) string {
	texts := make([]string, len(urls))
	for i, u := range urls {
		texts[i] = u.String()
	}
	return strings.Join(texts, ",")
}

// Reveal returns the whole URL with its credentials.
func (u URL) Reveal() string { return u.raw }

// String returns the URL with its credentials redacted.
func (u URL) String() string { return redactURL(u.raw) }

// Format implements [fmt.Formatter], so that no verb shows the credentials.
func (u URL) Format(f fmt.State, _ rune) { fmt.Fprint(f, u.String()) }

// MarshalText implements [encoding.TextMarshaler].
func (u URL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// LogValue implements [slog.LogValuer].
func (u URL) LogValue() slog.Value { return slog.StringValue(u.String()) }

// redactURL hides everything before the last @, whether or not the text is a
// URL: a password that is not encoded may hold any character.
func redactURL(text string) string {
	at := strings.LastIndex(text, "@")
	if at < 0 {
		return text
	}
	scheme := ""
	if i := strings.Index(text, "://"); i >= 0 && i < at {
		scheme = text[:i+3]
	}
	return scheme + redacted + text[at:]
}
