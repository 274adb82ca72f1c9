package config

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

// loadText loads a file with that text and variables, one a line.
func loadText(text []byte, variables string) (*Config, error) {
	l := loader{environ: parseEnviron(strings.Split(variables, "\n")), found: map[string][]given{}, file: "/etc/rebound.yaml"}
	l.readYAML(l.file, text)
	l.readEnvironment()
	return l.config()
}

// FuzzLoad reads any text as a configuration file and as variables. Each issue
// takes one line; a valid configuration is unchanged when it is written as a file.
func FuzzLoad(f *testing.F) {
	for _, c := range [][2]string{
		{"", ""},
		{"listen: 127.0.0.1:1\nhttp: off\nprefix: from-file\nreplicas: 03", "REBOUND_LEASE=5s\nREBOUND_LOG_LEVEL=debug"},
		{"nats: [nats://u:hunter2@h:4222, b]\npassword: hunter2\nuser: x", ""},
		{"listen: 1\nlisten: 2", "REBOUND_LISTEN=:0"},
		{"context: \"@selected\"\nnats: a", "NATS_URL=nats://u:hunter2@h"},
		{"a: &x {b: *x}\nlisten: *x", ""},
		{"? [listen]\n: x", ""},
		{"- listen", ""},
		{"--- a\n--- b", ""},
		{"listen: {a: b}", ""},
		{"\xff", "\xff=\xff"},
		{"max-store: 1e400\nsync-interval: 99999999999d\nlease: -1s\nmax-in-flight-bytes: 0x1p70", "REBOUND_MAX_STORE=9223372036854775808"},
		{"outcomes-max-age: 1d12h\noutcomes-max-bytes: 1.5GB\nredis: redis://h/0", "HOME=/h"},
		{"token: *hunter2", ""},
		{"<<: {listen: x}", ""},
	} {
		f.Add([]byte(c[0]), c[1])
	}
	f.Fuzz(func(t *testing.T, text []byte, variables string) {
		c, err := loadText(text, variables)
		if err != nil {
			var wrong *Error
			if !errors.As(err, &wrong) || c != nil {
				t.Fatalf("got %v and error %v, which is no *Error", c, err)
			}
			for _, issue := range wrong.Issues {
				if issue.Source == "" || issue.Problem == "" {
					t.Fatalf("the issue %+v does not say where or what", issue)
				}
			}
			return
		}
		shown := c.String() + fmt.Sprintf("%+v %#v", c.Password, c.Token)
		for _, secret := range []Secret{c.Password, c.Token} {
			if len(secret) > 12 && strings.Contains(shown, secret.Reveal()) {
				t.Fatalf("%q is shown in %s", secret.Reveal(), shown)
			}
		}
		if c.Prefix == "" || c.Lease < 2*time.Second || c.MaxInFlight < 1 || c.MaxInFlightBytes < 1<<20 || c.Replicas < 0 || c.Replicas > 5 || c.MaxStore < 0 || c.OutcomesMaxAge < 0 {
			t.Fatalf("accepted %+v", c)
		}
		c.ListenHostPort()
		var written strings.Builder
		for _, v := range c.Values() {
			if strings.Contains(v.Value, redacted) || v.Key == "nats" && c.Context != "" {
				return
			}
			if v.Value != "" {
				fmt.Fprintf(&written, "%s: %s\n", v.Key, strconv.Quote(v.Value))
			}
		}
		if !strings.Contains(written.String(), `\x`) { // YAML cannot hold bytes that are not UTF-8
			again, err := loadText([]byte(written.String()), "")
			if err != nil {
				t.Fatalf("%s\nis refused: %v", written.String(), err)
			}
			for i, v := range again.Values() {
				if before := c.Values()[i]; v.Value != before.Value {
					t.Fatalf("%s is %q, and written as a file %q", v.Key, before.Value, v.Value)
				}
			}
		}
	})
}

func FuzzParseDuration(f *testing.F) {
	for _, s := range []string{"90s", "7d", "1d12h", "-1s", "106752d", "0", "d", "1d1d", "1e3s", "９s", " 5m ", "1.5h", "-0s", "106751d23h59m59s"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := ParseDuration(text)
		if err != nil {
			return
		}
		if again, err := ParseDuration(d.String()); d < 0 || err != nil || again != d {
			t.Errorf("%q is %s, which is read as %s, %v", text, d, again, err)
		}
	})
}

func FuzzParseBytes(f *testing.F) {
	for _, s := range []string{"1048576", "256MiB", "1.5GB", "9223372036854775807", "9223372036854775808", "8388608T", "-1", "NaN", "1e3", "0x10", "٣k", ".5k", "1 kb", "k", "1e309"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := ParseBytes(text)
		if err != nil {
			return
		}
		if again, err := ParseBytes(strconv.FormatInt(n, 10)); n < 0 || err != nil || again != n {
			t.Errorf("%q is %d, which is read as %d, %v", text, n, again, err)
		}
	})
}

// FuzzParseURL checks that no password is shown, whether or not a URL is accepted.
func FuzzParseURL(f *testing.F) {
	for _, s := range []string{"h", "nats://u:hunter2hunter2@h:4222", "tls://[::1]:4222", "redis://:hunter2hunter2@h:6379/0?addr=b", "http://h", "nats://", "nats://h:99999", "://", "nats://u:a@b@h", "%zz"} {
		f.Add(s, "hunter2hunter2")
	}
	f.Fuzz(func(t *testing.T, text, password string) {
		for _, parse := range []func(string) (URL, error){ParseURL, ParseRedisURL} {
			u, err := parse(text)
			if err == nil {
				if again, err := parse(u.Reveal()); err != nil || again != u {
					t.Errorf("%q is read again as %q, %v", u.Reveal(), again.Reveal(), err)
				}
			}
			if len(password) < 12 || strings.ContainsAny(password, "@/?#[]\\\"%") || strconv.Quote(password) != `"`+password+`"` {
				continue
			}
			u, err = parse("nats://name:" + password + "@host")
			if shown := fmt.Sprintf("%v %+v %#v %v", u, u, u, err); strings.Contains(shown, password) {
				t.Errorf("the password is shown in %s", shown)
			}
		}
	})
}
