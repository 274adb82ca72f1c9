package config_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestSecret_IsNeverShown(t *testing.T) {
	const secret = "hunter2"
	for name, args := range map[string][]string{
		"a password":           {"--user=ann", "--password=" + secret, "--nats=a:1"},
		"a token":              {"--token=" + secret, "--nats=a:1"},
		"a password in a URL":  {"--nats=nats://ann:" + secret + "@a:1,b:2"},
		"a token in a URL":     {"--nats=" + secret + "@a:1"},
		"NATS_URL":             {"--user=ann", "--password=x"},
		"a file with a secret": {"--config", write(t, "token: "+secret+"\nnats: nats://ann:"+secret+"@a:1\n")},
	} {
		t.Run(name, func(t *testing.T) {
			c := load(t, args, "HOME=/h", "NATS_URL=nats://"+secret+"@d:4")
			var log bytes.Buffer
			slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "config", c, "nats", c.NATS, "password", c.Password)
			encoded, err := json.Marshal(c)
			if err != nil {
				t.Fatal(err)
			}
			for way, shown := range map[string]string{
				"%v": fmt.Sprintf("%v", c), "%+v": fmt.Sprintf("%+v", c), "%#v": fmt.Sprintf("%#v", c),
				"the value": fmt.Sprintf("%v %+v %#v", *c, *c, *c), "String": c.String(),
				"the fields": fmt.Sprintf("%s %q %x %v %#v %s", c.Password, c.Token, c.Password.String(), c.NATS, c.NATS, c.Servers()),
				"JSON":       string(encoded), "the log": log.String(), "Values": fmt.Sprintf("%+v", c.Values()),
			} {
				if strings.Contains(shown, secret) {
					t.Errorf("%s shows it: %s", way, shown)
				}
			}
			if !strings.Contains(c.String(), "[redacted]") {
				t.Errorf("it is not said that there is a secret: %s", c)
			}
			if !strings.Contains(c.Password.Reveal()+c.Token.Reveal()+c.Servers()[0].Reveal(), secret) {
				t.Error("it cannot be had")
			}
		})
	}
}

func TestIssue_ShowsNoSecret(t *testing.T) {
	const secret = "SUAGMJHZ4FLNHGM4DLD2JPS4ZLPA6RHGLXZ4ZL4PQDJWKVTNPBZMPPCE5U"
	for _, args := range [][]string{
		{"--nats=nats://ann:" + secret + "@"},
		{"--nats=nats://ann:" + secret + "@host:nope"},
		{"--nats=http://ann:" + secret + "@host"},
		{"--nats=nats://ann:" + secret + "%zz@host"},
		{"--nats=nats://ann:" + secret + "/slash@host:1:2"},
		{"--nkey=" + secret},
		{"--creds=" + secret},
		{"--password=" + secret},
		{"--config", write(t, "password: ["+secret+"]\n")},
		{"--config", write(t, "password: {a: "+secret+"}\n")},
		{"--config", write(t, "passwort: "+secret+"\n")},
		{"--config", write(t, "password: *"+secret+"\n")},
		{"--config", write(t, "password: \""+secret+"\n")},
		{"--config", write(t, "password: !"+secret+" x: y\n")},
		{"--config", write(t, "password: %"+secret+"\n")},
	} {
		if err := loadError(t, args, "HOME=/h"); strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", args[0], err)
		}
	}
}
