package crash

import (
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/internal/testkit"
)

// TestProgram_ReplyThatCameWhileItStoodStillCounts stops an instance like SIGSTOP during an
// attempt, until after the attempt's timeout.
func TestProgram_ReplyThatCameWhileItStoodStillCounts(t *testing.T) {
	t.Parallel()
	policies := filepath.Join(t.TempDir(), "policies.yaml")
	if err := os.WriteFile(policies, []byte("default: {baseDelay: 10ms, jitterType: none, attemptTimeout: 2s}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	server := testkit.Server(t)
	nc := testkit.Connect(t, server.ClientURL())
	var attempts atomic.Int64
	attempted := make(chan *nats.Msg, 16)
	if _, err := nc.Subscribe("load.op", func(m *nats.Msg) {
		if attempts.Add(1) > 1 {
			_ = m.Respond(nil)
			return
		}
		attempted <- m
	}); err != nil {
		t.Fatal(err)
	}
	p := start(t, build(t), []string{"serve", "--http", "off", "--policies", policies, "--log-level", "warn", "--nats", server.ClientURL()})
	p.awaitRunning(t)
	js := testkit.JetStream(t, nc)
	for i, inTime := 0, false; !inTime; i++ {
		if i == 10 {
			t.Fatal("the machine is too busy to stop the instance within a second")
		}
		attempts.Store(0)
		submit(t, js, i, false)
		request, began := <-attempted, time.Now()
		p.signal(t, syscall.SIGSTOP)
		err := request.Respond(nil)
		if err == nil {
			err = nc.Flush()
		}
		inTime = time.Since(began) < time.Second
		<-time.After(4 * time.Second)
		p.signal(t, syscall.SIGCONT)
		if err != nil {
			t.Fatal(err)
		}
		awaitSettled(t, js, i+1)
		if n := attempts.Load(); inTime && n != 1 {
			t.Errorf("%d attempts were made, want only the one whose reply came while the instance stood still", n)
		}
	}
	p.stop(t)
}

func (p *program) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatalf("sending %v to process %d: %v", s, p.cmd.Process.Pid, err)
	}
}
