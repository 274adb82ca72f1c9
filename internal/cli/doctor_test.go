package cli

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/doctor"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/internal/testkit"
)

// findings runs the doctor and returns what it found, by check.
func (c *cli) findings(code int, args ...string) map[string]doctor.Finding {
	c.t.Helper()
	r := c.run(append([]string{"doctor", "--output", "json"}, args...)...)
	said := jsonLines[doctor.Diagnosis](c.t, r.stdout)
	if r.code != code || len(said) != 1 || said[0].OK != (code == exitOK) {
		c.t.Fatalf("the doctor ended with %d: %+v", r.code, r)
	}
	found := make(map[string]doctor.Finding)
	for _, f := range said[0].Findings {
		found[f.Check] = f
	}
	return found
}

func (c *cli) expect(found map[string]doctor.Finding, want map[string]string) {
	c.t.Helper()
	for check, status := range want {
		if found[check].Status != status {
			c.t.Errorf("%s is %+v, want %s", check, found[check], status)
		}
	}
}

func TestDoctor_PassesAHealthyServer(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	found := c.findings(exitOK)
	c.expect(found, map[string]string{
		"settings": doctor.OK, "policy file": doctor.OK, "server": doctor.OK, "stream RETRY": doctor.OK, "permissions": doctor.OK,
		"clock": doctor.OK, "durability": doctor.Warn, "replicas": doctor.OK, "service": doctor.Warn,
	})
	c.service()
	c.expect(c.findings(exitOK), map[string]string{"service": doctor.OK})
	out := c.ok("doctor", "--prefix", "retry")
	for _, want := range []string{"SETTING", "--prefix", "REBOUND_NATS", "default", "ok    server: nats-server 2.", "→ look for `sync_interval"} {
		if !strings.Contains(out, want) {
			t.Errorf("it lacks %q:\n%s", want, out)
		}
	}
}

func TestDoctor_ChecksTheHostBeforeTheFirstStart(t *testing.T) {
	c := &cli{t: t, env: []string{"HOME=" + t.TempDir()}}
	free := []string{"--listen", "127.0.0.1:0", "--http", "off"}
	c.expect(c.findings(exitOK, append(free, "--sync-interval", "always")...), map[string]string{
		"connection": doctor.Warn, "store directory": doctor.OK, "listen": doctor.OK, "durability": doctor.OK,
	})
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c.expect(c.findings(exitFailure, append(free, "--store-dir", file)...), map[string]string{"store directory": doctor.Fail})
	c.expect(c.findings(exitFailure, "--nats", "127.0.0.1:1"), map[string]string{"connection": doctor.Fail})
	c.expect(c.findings(exitFailure, "--nats", oldServer(t)), map[string]string{"server": doctor.Fail})
}

func TestDoctor_FailsOnAnIncompatibleStream(t *testing.T) {
	t.Parallel()
	c := bareCLI(t, testkit.Server(t).ClientURL())
	c.expect(c.findings(exitOK), map[string]string{"stream RETRY_DEAD": doctor.Warn})
	if _, err := c.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "RETRY", Subjects: []string{"retry.due.>"}}); err != nil {
		t.Fatal(err)
	}
	c.expect(c.findings(exitFailure), map[string]string{"stream RETRY": doctor.Fail})
}

// The server makes two streams of the same subjects when it is asked for both at the same time.
func TestDoctor_NamesAStreamThatStoresWhatIsOursToo(t *testing.T) {
	t.Parallel()
	url := testkit.Server(t).ClientURL()
	c := bareCLI(t, url)
	other := testkit.JetStream(t, testkit.Connect(t, url))
	dead := streams.Configs(events.Streams{}, streams.Limits{})[3]
	testkit.Eventually(t, 30*time.Second, "two streams of dead letters", func() bool {
		for _, name := range []string{dead.Name, "COPY"} {
			if err := c.js.DeleteStream(t.Context(), name); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
				t.Fatal(err)
			}
		}
		var making sync.WaitGroup
		var ours, theirs error
		making.Go(func() { _, ours = c.js.CreateStream(t.Context(), dead) })
		making.Go(func() {
			_, theirs = other.CreateStream(t.Context(), jetstream.StreamConfig{Name: "COPY", Subjects: []string{"retry.dead.>"}})
		})
		making.Wait()
		return ours == nil && theirs == nil
	})
	found := c.findings(exitFailure)
	c.expect(found, map[string]string{"stream RETRY_DEAD": doctor.OK, "stream COPY": doctor.Fail})
	if says := found["stream COPY"].Found; !strings.Contains(says, "captures retry.dead.>, which belongs to stream RETRY_DEAD") {
		t.Errorf("the doctor says %q, want which subjects and whose", says)
	}
	if err := c.js.DeleteStream(t.Context(), "COPY"); err != nil {
		t.Fatal(err)
	}
	if f, ok := c.findings(exitOK)["stream COPY"]; ok {
		t.Errorf("of a stream that is gone the doctor says %+v", f)
	}
}

func TestDoctor_ListsMissingPermissions(t *testing.T) {
	server := restricted(t, &natsd.Permissions{
		Publish:   &natsd.SubjectPermission{Allow: []string{"$JS.API.>", "$JS.ACK.>", "$SYS.REQ.USER.INFO", "retry.>", "rebound.>", "_INBOX.>"}, Deny: []string{"retry.dead.>"}},
		Subscribe: &natsd.SubjectPermission{Allow: []string{"_INBOX.>", "$SRV.>"}},
	})
	c := &cli{t: t, env: []string{"HOME=" + t.TempDir(), "REBOUND_NATS=" + server, "REBOUND_USER=rebound", "REBOUND_PASSWORD=pass"}}
	f := c.findings(exitFailure)["permissions"]
	if f.Status != doctor.Fail || !strings.Contains(f.Found, "publish to retry.> (") || !strings.Contains(f.Found, "subscribe to rebound.> (") ||
		!strings.Contains(f.Found, "subscribe to retry.health.> (") || !strings.Contains(f.Found, "subscribe to retry.instance.* (") || strings.Contains(f.Found, "$JS") {
		t.Errorf("%+v", f)
	}
}

// restricted starts a server with one user that has those permissions.
func restricted(t *testing.T, p *natsd.Permissions) string {
	t.Helper()
	server := testkit.PlainServer(t, &natsd.Options{
		JetStream: true, StoreDir: t.TempDir(), Users: []*natsd.User{{Username: "rebound", Password: "pass", Permissions: p}},
	})
	testkit.Connect(t, server.ClientURL(), nats.UserInfo("rebound", "pass"))
	return server.ClientURL()
}
