package natsconn_test

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rebound-mq/rebound/internal/natsconn"
	"github.com/rebound-mq/rebound/internal/testkit"
)

func TestConnect_UsesAContext(t *testing.T) {
	id := newIdentity(t)
	pki := certificates(t)
	for name, fields := range map[string]map[string]any{
		"plain":         {"url": testkit.Server(t).ClientURL()},
		"user":          {"url": passwordServer(t), "user": "ann", "password": "s3cret"},
		"token":         {"url": tokenServer(t), "token": "s3cret"},
		"nkey":          {"url": id.nkeyServer(t), "nkey": id.seedFile},
		"creds":         {"url": id.jwtServer(t), "creds": id.credsFile},
		"creds by $X":   {"url": id.jwtServer(t), "creds": "$TEST_CREDS_DIR/user.creds"},
		"JWT and seed":  {"url": id.jwtServer(t), "user_jwt": id.jwt, "user_seed": id.seed},
		"TLS":           {"url": tlsServer(t, pki), "ca": pki.ca, "cert": pki.cert, "key": pki.key},
		"inbox":         {"url": testkit.Server(t).ClientURL(), "inbox_prefix": "_INBOX_mine"},
		"credential-ed": {"url": strings.Replace(passwordServer(t), "//", "//ann:s3cret@", 1)},
	} {
		t.Run(name, func(t *testing.T) {
			dir := contexts(t, map[string]map[string]any{"mine": fields})
			t.Setenv("TEST_CREDS_DIR", filepath.Dir(id.credsFile))
			connect(t, load(t, "--context=mine"))

			selectContext(t, dir, "mine")
			connect(t, load(t, "--context=@selected"))
		})
	}
}

func TestContext_NamesTheWayToJetStream(t *testing.T) {
	s := testkit.Server(t)
	contexts(t, map[string]map[string]any{
		"elsewhere": {"url": s.ClientURL(), "jetstream_domain": "hub"},
		"prefixed":  {"url": s.ClientURL(), "jetstream_api_prefix": "JS.hub.API"},
		"here":      {"url": s.ClientURL()},
	})
	for name, subject := range map[string]string{
		"elsewhere": "$JS.hub.API.INFO", "prefixed": "JS.hub.API.INFO", "here": "$JS.API.INFO",
	} {
		nc := connect(t, load(t, "--context="+name))
		asked, err := nc.SubscribeSync(subject)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		_, _ = jetStream(t, nc).AccountInfo(ctx)
		cancel()
		if _, err := asked.NextMsg(10 * time.Second); err != nil {
			t.Errorf("%s: JetStream was not asked at %s: %v", name, subject, err)
		}
	}
}

func TestContext_FailsWithOneClearSentence(t *testing.T) {
	nowhere := "nats://" + testkit.Addr(t)
	dir := contexts(t, map[string]map[string]any{
		"nsc":    {"nsc": "nsc://operator/account/user"},
		"scheme": {"creds": "op://vault/creds"},
		"bearer": {"user_jwt": "eyJ.s3cret"},
		"down":   {"url": strings.Replace(nowhere, "//", "//ann:s3cret@", 1), "password": "s3cret"},
	})
	broken := filepath.Join(dir, "context", "broken.json")
	if err := os.WriteFile(broken, []byte(`{"password": s3cret}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"missing":   `nats context "missing": there is no file ` + filepath.Join(dir, "context", "missing.json"),
		"@selected": "none is selected; choose one with `nats context select`",
		"broken":    `its file ` + broken + ` is not what the nats command line writes`,
		"nsc":       "uses a lookup by nsc, which Rebound does not read",
		"scheme":    `uses "op:" for its creds, which Rebound does not read`,
		"bearer":    "uses a bearer JWT, which Rebound does not read",
		"down":      "connecting to NATS at " + strings.Replace(nowhere, "//", "//[redacted]@", 1) + " (nats context down): no server answers there",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := natsconn.Connect(t.Context(), load(t, "--context="+name), "x", testkit.Logger(t))
			if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("error is %v, want %q", err, want)
			}
		})
	}
}

// contexts writes files as `nats context add` does, with all fields present, and makes
// the test find them. It returns their directory.
func contexts(t *testing.T, all map[string]map[string]any) string {
	t.Helper()
	home := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", home)
	dir := filepath.Join(home, "nats")
	if err := os.MkdirAll(filepath.Join(dir, "context"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, fields := range all {
		file := map[string]any{
			"description": "", "url": "nats://127.0.0.1:4222", "socks_proxy": "", "token": "", "user": "",
			"password": "", "creds": "", "nkey": "", "cert": "", "key": "", "ca": "", "nsc": "",
			"jetstream_domain": "", "jetstream_api_prefix": "", "jetstream_event_prefix": "", "inbox_prefix": "",
			"user_jwt": "", "user_seed": "", "color_scheme": "", "tls_first": false,
			"windows_cert_store": "", "windows_cert_match_by": "", "windows_cert_match": "", "windows_ca_certs_match": nil,
		}
		maps.Copy(file, fields)
		text, err := json.MarshalIndent(file, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "context", name+".json"), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// selectContext does what `nats context select` does.
func selectContext(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "context.txt"), []byte(name), 0o600); err != nil {
		t.Fatal(err)
	}
}
