//go:build unix

package testkit

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// RedisServer is a redis-server process of one test.
type RedisServer struct {
	t    testing.TB
	path string
	dir  string
	port int
	args []string

	cmd    *exec.Cmd
	exited chan struct{}
	output *Buffer
}

// Redis starts a redis-server, found on PATH, on a [Port] and without persistence, and stops
// it when the test ends. If there is none the test fails and is not skipped. args are passed
// before all other arguments.
func Redis(t testing.TB, args ...string) *RedisServer {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatalf("testkit: redis-server is not on PATH (%v); install it, on Debian with: apt-get install redis-server", err)
	}
	r := &RedisServer{t: t, path: path, dir: t.TempDir(), port: Port(t), args: args}
	t.Cleanup(r.Stop)
	if err := r.run(); err != nil {
		t.Fatalf("testkit: starting redis-server: %v", err)
	}
	return r
}

// MasterName is the master's name at the sentinels of [Sentinel].
const MasterName = "rebound"

// Sentinel starts a replica of a server, and a sentinel that promotes the replica when the server
// has been gone for half a second. It waits until the replica is in sync and the sentinel knows
// both.
func Sentinel(t testing.TB, master *RedisServer) (replica, sentinel *RedisServer) {
	t.Helper()
	port := strconv.Itoa(master.port)
	replica = Redis(t, "--replicaof", "127.0.0.1 "+port)
	file := filepath.Join(t.TempDir(), "sentinel.conf")
	config := fmt.Sprintf("sentinel monitor %[1]s 127.0.0.1 %[2]s 1\nsentinel down-after-milliseconds %[1]s 500\nsentinel failover-timeout %[1]s 2000\n", MasterName, port)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	sentinel = Redis(t, file, "--sentinel")
	follower := redis.NewClient(&redis.Options{Addr: replica.Addr()})
	defer follower.Close()
	Eventually(t, 30*time.Second, "the replica follows", func() bool {
		info, err := follower.Info(t.Context(), "replication").Result()
		return err == nil && strings.Contains(info, "master_link_status:up")
	})
	client := redis.NewSentinelClient(&redis.Options{Addr: sentinel.Addr()})
	defer client.Close()
	Eventually(t, 30*time.Second, "the sentinel knows the replica", func() bool {
		replicas, err := client.Replicas(t.Context(), MasterName).Result()
		return err == nil && len(replicas) == 1
	})
	return replica, sentinel
}

// Flush empties the server.
func (r *RedisServer) Flush() {
	r.t.Helper()
	client := redis.NewClient(&redis.Options{Addr: r.Addr()})
	defer client.Close()
	if err := client.FlushAll(r.t.Context()).Err(); err != nil {
		r.t.Fatalf("testkit: emptying redis-server: %v", err)
	}
}

// Addr returns the server's address as host:port.
func (r *RedisServer) Addr() string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(r.port))
}

// URL returns the server's address as redis://host:port.
func (r *RedisServer) URL() string { return "redis://" + r.Addr() }

// Stop ends the process and waits for it. Its data is lost.
func (r *RedisServer) Stop() {
	if r.cmd == nil {
		return
	}
	_ = r.cmd.Process.Signal(syscall.SIGCONT) // a paused process cannot exit
	_ = r.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-r.exited:
	case <-time.After(10 * time.Second):
		_ = r.cmd.Process.Kill()
		<-r.exited
	}
	r.cmd = nil
}

// Restart starts the process again, empty and on the same port, and waits until it answers. It
// stops a running one first.
func (r *RedisServer) Restart() {
	r.t.Helper()
	r.Stop()
	if err := r.run(); err != nil {
		r.t.Fatalf("testkit: restarting redis-server: %v", err)
	}
}

// Pause suspends the process: connections stay open and nothing answers.
func (r *RedisServer) Pause() { r.signal(syscall.SIGSTOP) }

// Resume resumes a paused process.
func (r *RedisServer) Resume() { r.signal(syscall.SIGCONT) }

func (r *RedisServer) signal(s syscall.Signal) {
	r.t.Helper()
	if r.cmd == nil {
		r.t.Fatalf("testkit: redis-server is not running")
	}
	if err := r.cmd.Process.Signal(s); err != nil {
		r.t.Fatalf("testkit: redis-server: %v", err)
	}
}

func (r *RedisServer) run() error {
	r.output = new(Buffer)
	args := append(slices.Clone(r.args),
		"--bind", "127.0.0.1", "--port", strconv.Itoa(r.port),
		"--save", "", "--appendonly", "no", "--dir", r.dir, "--daemonize", "no")
	cmd := exec.Command(r.path, args...) //nolint:gosec,noctx // found on PATH; Stop ends it
	cmd.Stdout, cmd.Stderr = r.output, r.output
	if err := cmd.Start(); err != nil {
		return err
	}
	r.cmd, r.exited = cmd, make(chan struct{})
	go func(exited chan<- struct{}) {
		_ = cmd.Wait()
		close(exited)
	}(r.exited)
	return r.awaitReady()
}

func (r *RedisServer) awaitReady() error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(startTimeout)
	for {
		select {
		case <-r.exited:
			return fmt.Errorf("it exited at once: %s", lastLine(r.output.String()))
		case <-deadline:
			return errors.New("it does not answer")
		case <-tick.C:
			if ping(r.Addr()) {
				return nil
			}
		}
	}
}

func ping(addr string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return false
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return false
	}
	if _, err := io.WriteString(c, "PING\r\n"); err != nil {
		return false
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	return err == nil && strings.HasPrefix(line, "+PONG")
}

// lastLine returns the last line of a process's output.
func lastLine(output string) string {
	lines := strings.Split(strings.TrimSpace(output), "\n")
	return lines[len(lines)-1]
}
