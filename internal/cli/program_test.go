package cli

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/internal/testkit"
)

// program prepares a process of the program.
func program(t *testing.T, args ...string) (cmd *exec.Cmd, stderr *testkit.Buffer) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	t.Cleanup(cancel)
	cmd = exec.CommandContext(ctx, self, args...)
	cmd.Env = append(os.Environ(), asProgram+"=1", "HOME="+t.TempDir(), "XDG_CONFIG_HOME=", "XDG_STATE_HOME=")
	stderr = new(testkit.Buffer)
	cmd.Stderr = stderr
	return cmd, stderr
}

// exit returns the exit code of a process that was run, -1 after a signal.
func exit(t *testing.T, err error) int {
	t.Helper()
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		t.Fatal(err)
	}
	if failed != nil {
		return failed.ExitCode()
	}
	return 0
}

func TestServe_FailsWithOneSentence(t *testing.T) {
	t.Parallel()
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	taken := testkit.Server(t)
	js := testkit.JetStream(t, testkit.Connect(t, taken.ClientURL()))
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "RETRY_INTAKE", Subjects: []string{"retry.submit.>"}}); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		code int
		what string
		args []string
	}{
		"a busy NATS port":       {exitFailure, "the port is already in use", []string{"--listen", busy.Addr().String(), "--http", "off"}},
		"a busy HTTP port":       {exitFailure, "for HTTP: the port is already in use", []string{"--listen", "127.0.0.1:0", "--http", busy.Addr().String()}},
		"a store that is a file": {exitFailure, "it cannot be written", []string{"--listen", "127.0.0.1:0", "--http", "off", "--store-dir", file}},
		"a store that is in use": {exitFailure, "it is in use by", []string{"--listen", "127.0.0.1:0", "--http", "off", "--store-dir", taken.StoreDir()}},
		"no server":              {exitFailure, "no server answers there", []string{"--nats", "127.0.0.1:1", "--http", "off"}},
		"an old server":          {exitFailure, "is version 2.11.9; Rebound needs 2.12", []string{"--nats", oldServer(t), "--http", "off"}},
		"an incompatible stream": {exitFailure, "stream RETRY_INTAKE exists and is incompatible", []string{"--nats", taken.ClientURL(), "--http", "off"}},
		"a missing policy file":  {exitFailure, "nowhere.yaml", []string{"--policies", "nowhere.yaml", "--listen", "127.0.0.1:0", "--http", "off"}},
		"an unknown flag":        {exitUsage, "--speed", []string{"--speed", "9"}},
		"a bad value":            {exitUsage, "--replicas", []string{"--replicas", "many"}},
		"flags that exclude":     {exitUsage, "--store-dir", []string{"--nats", taken.ClientURL(), "--store-dir", file}},
	} {
		t.Run(name, func(t *testing.T) {
			cmd, stderr := program(t, append([]string{"serve", "--log-level", "error"}, tc.args...)...)
			code := exit(t, cmd.Run())
			checkFailure(t, result{stderr: stderr.String(), code: code}, tc.code, tc.what)
			if n := strings.Count(strings.TrimSpace(stderr.String()), "\n"); n > 0 {
				t.Errorf("it says more than one line:\n%s", stderr)
			}
		})
	}
}

// oldServer pretends to be a NATS server that is too old.
func oldServer(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go speakOld(c)
		}
	}()
	return "nats://" + l.Addr().String()
}

func speakOld(c net.Conn) {
	defer c.Close()
	if _, err := c.Write([]byte(`INFO {"server_id":"X","version":"2.11.9","headers":true,"max_payload":1048576}` + "\r\n")); err != nil {
		return
	}
	buf := make([]byte, 4096)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		if strings.Contains(string(buf[:n]), "PING") {
			if _, err := c.Write([]byte("PONG\r\n")); err != nil {
				return
			}
		}
	}
}

func TestServe_DrainsAtTheFirstSignalAndEndsAtTheSecond(t *testing.T) {
	t.Parallel()
	server := testkit.Server(t)
	c := bareCLI(t, server.ClientURL())
	asked := make(chan struct{}, 10)
	if _, err := c.nc.Subscribe("mute.charge", func(*nats.Msg) { asked <- struct{}{} }); err != nil {
		t.Fatal(err)
	}
	cmd, stderr := program(t, "serve", "--nats", server.ClientURL(), "--http", "off")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	signal := func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	says := func(what string) {
		t.Helper()
		testkit.Eventually(t, patience, "it says "+what, func() bool { return strings.Contains(stderr.String(), what) })
	}
	says("is running")
	c.ok("submit", "billing", "charge", "--target", "mute.charge", "--set", "baseDelay=10ms")
	<-asked
	signal()
	says("stopping")
	signal()
	if code := exit(t, cmd.Wait()); code != -1 {
		t.Errorf("the second signal led to exit code %d", code)
	}
}

func TestServe_EndsWellUponASignalWhenIdle(t *testing.T) {
	t.Parallel()
	cmd, stderr := program(t, "serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, patience, "it runs", func() bool { return strings.Contains(stderr.String(), "is running") })
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if code := exit(t, cmd.Wait()); code != exitOK {
		t.Errorf("it ended with %d:\n%s", code, stderr)
	}
}
