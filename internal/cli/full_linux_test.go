package cli

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/rebound-mq/rebound/internal/doctor"

	"github.com/rebound-mq/rebound/internal/testkit"
)

func TestServe_FullDiskIsReportedAndOutlived(t *testing.T) {
	t.Parallel()
	dir := testkit.SmallDisk(t, 96<<20)
	addr := testkit.Addr(t)
	serve, stderr := program(t, "serve", "--sync-interval", "always")
	// nats-server has a data race when JetStream is restarted during requests.
	serve.Env = append(serve.Env, "HOME="+dir, "REBOUND_LISTEN="+addr, "REBOUND_HTTP=127.0.0.1:0", "REBOUND_MAX_STORE=1GB", "GORACE=exitcode=0")
	if err := serve.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = serve.Process.Kill() })
	testkit.Eventually(t, patience, "it runs", func() bool { return strings.Contains(stderr.String(), "/readyz") })
	web := readyURL(t, stderr.String())
	c := bareCLI(t, "nats://"+addr)
	c.ok("submit", "billing", "charge", "--set", "baseDelay=1h", "--set", "maxDelay=1h")

	filler := filepath.Join(dir, "filler")
	testkit.FillDisk(t, filler)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	testkit.Eventually(t, patience, "/readyz saying that the disk is full", func() bool {
		_ = c.nc.Publish("retry.submit.billing.charge", make([]byte, 256<<10))
		answer, err := client.Get(web)
		if err != nil {
			return false
		}
		answer.Body.Close()
		return answer.StatusCode == http.StatusServiceUnavailable && strings.Contains(get(t, web), "the disk is full")
	})
	found := false
	for check, f := range c.findings(exitFailure) {
		found = found || strings.HasPrefix(check, "instance") && f.Status == doctor.Fail && strings.Contains(f.Found, "the disk is full")
	}
	if !found {
		t.Error("the doctor does not say that the disk is full")
	}
	if err := os.Remove(filler); err != nil && !errors.Is(err, syscall.ENOENT) {
		t.Fatal(err)
	}
	testkit.Eventually(t, patience, "/readyz saying that all is well", func() bool {
		return strings.Contains(get(t, web), `"status":"ready"`)
	})
	c.ok("submit", "billing", "charge", "--set", "baseDelay=1h", "--set", "maxDelay=1h")
	c.nc.Close()
	if err := serve.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if code := exit(t, serve.Wait()); code != exitOK {
		t.Errorf("it ended with %d:\n%s", code, stderr)
	}
}

// readyURL returns the address of /readyz from a service's announcement.
func readyURL(t *testing.T, said string) string {
	t.Helper()
	i := strings.Index(said, "http://")
	if i < 0 {
		t.Fatalf("the service does not say where its HTTP side is:\n%s", said)
	}
	address, _, _ := strings.Cut(said[i:], "/healthz")
	return address + "/readyz"
}
