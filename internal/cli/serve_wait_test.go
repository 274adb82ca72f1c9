package cli

import (
	"net/http"
	"strings"
	"testing"

	"github.com/rebound-mq/rebound/internal/testkit"
)

func TestServe_WhileItWaitsForALeaderItLivesAndSaysWhyItIsNotReady(t *testing.T) {
	t.Parallel()
	cluster := testkit.Cluster(t, 3)
	cluster.Stop(0)
	cluster.Stop(1)
	c := bareCLI(t, cluster.URLs()[2])
	addr := testkit.Addr(t)
	r := c.start(nil, "serve", "--http", addr)
	status := func(path string) int {
		answer, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get("http://" + addr + path)
		if err != nil {
			return 0
		}
		defer answer.Body.Close()
		return answer.StatusCode
	}
	testkit.Eventually(t, patience, "it says what it waits for", func() bool {
		return strings.Contains(r.stderr.String(), "waiting at the start") && status("/readyz") == http.StatusServiceUnavailable &&
			strings.Contains(get(t, "http://"+addr+"/readyz"), "waiting at the start for ")
	})
	if code := status("/healthz"); code != http.StatusOK {
		t.Errorf("/healthz answers %d", code)
	}
	r.interrupt()
	if out := r.wait(); out.code != exitOK || !strings.Contains(out.stderr, "stopped before the service had started") {
		t.Errorf("it ended with %d:\n%s", out.code, out.stderr)
	}
}
