package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/events/wire"
)

// serverCommand runs this program as a NATS server, in its own process.
const serverCommand = "serve-nats"

// serveNATS runs a server on a free port, prints its URL and the address of its profiler, and ends
// on SIGTERM.
func serveNATS(args []string) error {
	if len(args) != 1 {
		return errors.New("serve-nats takes the store directory")
	}
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, ProfPort: -1, JetStream: true, StoreDir: args[0], NoSigs: true, NoLog: true})
	if err != nil {
		return err
	}
	s.Start()
	if !s.ReadyForConnections(30 * time.Second) {
		return errors.New("the NATS server did not start")
	}
	fmt.Println(s.ClientURL(), s.ProfilerAddr())
	done := make(chan os.Signal, 1)
	signal.Notify(done, syscall.SIGTERM, os.Interrupt)
	<-done
	s.Shutdown()
	s.WaitForShutdown()
	return nil
}

// rig is a NATS server and, once started, the service, each in its own process.
type rig struct {
	binary, dir     string
	url, profiler   string // of the NATS server
	server, service *exec.Cmd
	nc              *nats.Conn
	js              jetstream.JetStream
}

func newRig(ctx context.Context, binary string) (*rig, error) {
	if _, err := os.Stat(binary); err != nil {
		return nil, fmt.Errorf("the program is not built: %w; run make build", err)
	}
	dir, err := os.MkdirTemp("", "rebound-bench-")
	if err != nil {
		return nil, err
	}
	r := &rig{binary: binary, dir: dir}
	if err := r.startServer(ctx); err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

// storeDir is the directory of the server's files.
func (r *rig) storeDir() string { return filepath.Join(r.dir, "nats") }

// startServer runs the NATS server and connects to it.
func (r *rig) startServer(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	r.server = exec.CommandContext(ctx, self, serverCommand, r.storeDir())
	r.server.Stderr = os.Stderr
	out, err := r.server.StdoutPipe()
	if err != nil {
		return err
	}
	if err := r.server.Start(); err != nil {
		return err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return fmt.Errorf("starting the NATS server: %w", err)
	}
	r.url, r.profiler, _ = strings.Cut(strings.TrimSpace(line), " ")
	if r.nc, err = nats.Connect(r.url); err != nil {
		return err
	}
	r.js, err = jetstream.New(r.nc, jetstream.WithPublishAsyncMaxPending(4096))
	return err
}

// restartServer stops the NATS server and starts it anew on its files. The service must be stopped.
func (r *rig) restartServer(ctx context.Context) error {
	r.nc.Close()
	if err := r.server.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	if err := r.server.Wait(); err != nil {
		return fmt.Errorf("stopping the NATS server: %w", err)
	}
	return r.startServer(ctx)
}

// start runs the service with a policy file and waits until it answers.
func (r *rig) start(ctx context.Context, policies string) error {
	return r.startWith(ctx, policies, "--http", "off")
}

// startWith runs the service with further flags.
func (r *rig) startWith(ctx context.Context, policies string, flags ...string) error {
	path := filepath.Join(r.dir, "policies.yaml")
	if err := os.WriteFile(path, []byte(policies), 0o600); err != nil {
		return err
	}
	r.service = exec.CommandContext(ctx, r.binary, append([]string{"serve", "--nats", r.url, "--log-level", "warn", "--policies", path}, flags...)...)
	r.service.Stdout, r.service.Stderr = os.Stderr, os.Stderr
	if err := r.service.Start(); err != nil {
		return err
	}
	return await(ctx, 30*time.Second, func() bool {
		m, err := r.nc.Request("rebound.status", nil, time.Second)
		if err != nil {
			return false
		}
		code, _ := wire.MicroError(m.Header)
		return code == ""
	})
}

// stop ends the service and waits for it.
func (r *rig) stop() error {
	if r.service == nil {
		return nil
	}
	cmd := r.service
	r.service = nil
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return cmd.Wait()
}

// kill ends the service like kill -9.
func (r *rig) kill() error {
	cmd := r.service
	r.service = nil
	if err := cmd.Process.Kill(); err != nil {
		return err
	}
	_ = cmd.Wait() // fails because it was killed
	return nil
}

// command starts another command of the program on the same server.
func (r *rig) command(ctx context.Context, args ...string) (*exec.Cmd, error) {
	cmd := exec.CommandContext(ctx, r.binary, append(args, "--nats", r.url)...)
	cmd.Stderr = os.Stderr
	return cmd, cmd.Start()
}

func (r *rig) close() {
	if r.nc != nil {
		r.nc.Close()
	}
	for _, cmd := range []*exec.Cmd{r.service, r.server} {
		if cmd != nil && cmd.Process != nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
	_ = os.RemoveAll(r.dir)
}

// resident returns the service's resident memory in bytes.
func (r *rig) resident() (int64, error) { return processMemory(r.service, "VmRSS") }

// processMemory returns a figure of a process's status in bytes: VmRSS is its resident memory,
// VmHWM the most that it was.
func processMemory(cmd *exec.Cmd, figure string) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, figure+":"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("/proc has no %s of process %d", figure, cmd.Process.Pid)
}

// messages returns the number of messages in a stream.
func (r *rig) messages(ctx context.Context, stream string) uint64 {
	s, err := r.js.Stream(ctx, stream)
	if err != nil {
		return 0
	}
	return s.CachedInfo().State.Msgs
}

// stored returns the number of messages in a stream on one subject.
func (r *rig) stored(ctx context.Context, stream, subject string) (uint64, error) {
	s, err := r.js.Stream(ctx, stream)
	if err != nil {
		return 0, err
	}
	info, err := s.Info(ctx, jetstream.WithSubjectFilter(subject))
	if err != nil {
		return 0, err
	}
	return info.State.Subjects[subject], nil
}

// await polls until cond returns true.
func await(ctx context.Context, within time.Duration, cond func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !cond() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("not within %s: %w", within, ctx.Err())
		}
	}
	return nil
}
