package cli

import (
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/rebound-mq/rebound/internal/doctor"

	"github.com/rebound-mq/rebound/internal/testkit"
)

func TestServe_RunsOnTheEmbeddedServer(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	own := &cli{t: t, env: []string{"HOME=" + home, "REBOUND_LISTEN=127.0.0.1:0", "REBOUND_HTTP=127.0.0.1:0"}}
	r := own.start(nil, "serve")
	testkit.Eventually(t, patience, "it runs", func() bool { return strings.Contains(r.stderr.String(), "policies     built-in") })
	said := r.stderr.String()
	if !strings.Contains(said, "files in "+home+"/.local/state/rebound") {
		t.Errorf("it does not say where its files are:\n%s", said)
	}
	health := regexp.MustCompile(`http://\S+/healthz`).FindString(said)
	for path, want := range map[string]string{"/healthz": "alive", "/readyz": "ready"} {
		if body := get(t, strings.Replace(health, "/healthz", path, 1)); !strings.Contains(body, want) {
			t.Errorf("%s answers %s", path, body)
		}
	}
	c := bareCLI(t, regexp.MustCompile(`nats://[^, ]+`).FindString(said))
	id := strings.TrimSpace(c.ok("submit", "billing", "charge", "--error-code", "403"))
	testkit.Eventually(t, patience, "the operation ends", func() bool {
		return strings.Contains(c.ok("outcomes", "--no-follow"), id)
	})
	c.nc.Close()
	r.interrupt()
	if out := r.wait(); out.code != exitOK {
		t.Errorf("it ended with %d:\n%s", out.code, out.stderr)
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestServe_KeepsThreeReplicasOnACluster(t *testing.T) {
	t.Parallel()
	c := bareCLI(t, testkit.Cluster(t, 3).URL())
	r := c.start(nil, "serve", "--http", "off")
	testkit.Eventually(t, patience, "it runs", func() bool { return strings.Contains(r.stderr.String(), "is running") })
	stream, err := c.js.Stream(t.Context(), "RETRY")
	if err != nil || stream.CachedInfo().Config.Replicas != 3 {
		t.Errorf("%+v, %v", stream, err)
	}
	testkit.Eventually(t, patience, "all is well", func() bool {
		found := c.findings(exitOK)
		return found["replicas"].Status == doctor.OK && found["durability"].Status == doctor.OK
	})
	r.interrupt()
	if out := r.wait(); out.code != exitOK {
		t.Errorf("it ended with %d:\n%s", out.code, out.stderr)
	}
}

func TestServe_LogsInJSONOnly(t *testing.T) {
	t.Parallel()
	c := bareCLI(t, testkit.Server(t).ClientURL())
	c.env = append(c.env, "REBOUND_TYPO=1")
	r := c.start(nil, "serve", "--http", "off", "--log-format", "json")
	testkit.Eventually(t, patience, "it runs", func() bool { return strings.Contains(r.stderr.String(), `"msg":"running"`) })
	r.interrupt()
	out := r.wait()
	if lines := jsonLines[map[string]any](t, out.stderr); out.code != exitOK || len(lines) == 0 {
		t.Errorf("%+v", out)
	}
}
