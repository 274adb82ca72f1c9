package crash

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/internal/testkit"
)

const (
	// stops is how often an instance is stopped while the other goes on.
	stops = 6
	// stopped is how many operations there are meanwhile.
	stopped = 900
)

// redeliveries counts the acknowledgements of messages that the server says it delivered before.
type redeliveries struct{ atomic.Int64 }

// watch is a proxy's fate of publications, all of which pass.
func (r *redeliveries) watch(pub testkit.Publication) testkit.Fate {
	settles := strings.HasPrefix(pub.Subject, "$JS.ACK.") && string(pub.Data) == "+ACK"
	if n, ok := pub.Deliveries(); settles && (!ok || n > 1) {
		r.Add(1)
	}
	return testkit.Pass
}

// TestProgram_GracefulStopLeavesNoRepeat ends one of two instances like SIGTERM in the middle of
// the traffic, again and again. What it left unacknowledged would wait for its lease, which lasts
// longer than the test.
func TestProgram_GracefulStopLeavesNoRepeat(t *testing.T) {
	t.Parallel()
	policies := filepath.Join(t.TempDir(), "policies.yaml")
	if err := os.WriteFile(policies, []byte(policy), 0o600); err != nil {
		t.Fatal(err)
	}
	binary, server := build(t), testkit.Server(t)
	var again redeliveries
	args := []string{
		"serve", "--http", "off", "--lease", "1h", "--policies", policies, "--log-level", "warn", "--nats", testkit.Lossy(t, server.Addr(), again.watch).URL(),
	}
	running := []*program{start(t, binary, args), start(t, binary, args)}
	for _, p := range running {
		p.awaitRunning(t)
	}

	nc := testkit.Connect(t, server.ClientURL(), nats.ReconnectBufSize(-1))
	js := testkit.JetStream(t, nc)
	tg := newTarget(t, nc, false)
	var submitting sync.WaitGroup
	var submitted atomic.Int64
	for worker := range 4 {
		submitting.Go(func() {
			for i := worker; i < stopped; i += 4 {
				submit(t, js, i, false)
				submitted.Add(1)
			}
		})
	}
	calm := true // whether no pull was given up because the busy machine did not answer it in time
	stop := func(p *program) {
		p.stop(t)
		calm = calm && !p.said("pulling messages failed")
	}
	for n := range stops {
		testkit.Eventually(t, time.Minute, "submissions going on", func() bool { return int(submitted.Load()) >= stopped*(n+1)/(stops+1) })
		stop(running[n%2])
		running[n%2] = start(t, binary, args)
		running[n%2].awaitRunning(t)
	}
	submitting.Wait()
	awaitSettled(t, js, stopped)
	for _, p := range running {
		stop(p)
	}

	outcomes, err := read(js)
	if err != nil {
		t.Fatalf("reading the outcomes: %v", err)
	}
	for i := range stopped {
		if got := outcomes[strconv.Itoa(i)]; len(got) != 1 {
			t.Errorf("operation %d has %d outcomes, want 1: %+v", i, len(got), got)
		}
	}
	t.Logf("%d stops, %d operations, %d attempts, %d of them marked as repeats", stops+2, stopped, tg.attempts.Load(), tg.repeats.Load())
	if n := tg.again(); n > 0 {
		t.Errorf("%d attempts were made more than once, want none", n)
	}
	if n := again.Load(); n > 0 && calm {
		t.Errorf("%d messages were delivered again, want none", n)
	}
}

// awaitRunning waits until the process says that it runs.
func (p *program) awaitRunning(t *testing.T) {
	t.Helper()
	testkit.Eventually(t, time.Minute, "the program running", func() bool { return p.said("is running") })
}

// said reports whether the process has printed a text.
func (p *program) said(text string) bool {
	said, err := os.ReadFile(p.log.Name())
	return err == nil && strings.Contains(string(said), text)
}

// stop ends the process like SIGTERM and waits until it is gone.
func (p *program) stop(t *testing.T) {
	t.Helper()
	p.signal(t, syscall.SIGTERM)
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("process %d ended with %v, want a graceful end", p.cmd.Process.Pid, err)
	}
	_ = p.log.Close()
}
