package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/bench/compare"
	"github.com/rebound-mq/rebound/bench/compare/natspath"
	"github.com/rebound-mq/rebound/events/wire"
)

// rig is a NATS server and, once started, the service, each in its own process.
type rig struct {
	binary, dir, url string
	server           *compare.Child
	service          *exec.Cmd
	nc               *nats.Conn
	js               jetstream.JetStream
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
	if r.server, r.url, err = natspath.StartServer(ctx, dir); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if r.nc, err = nats.Connect(r.url); err != nil {
		r.close()
		return nil, err
	}
	if r.js, err = jetstream.New(r.nc, jetstream.WithPublishAsyncMaxPending(4096)); err != nil {
		r.close()
		return nil, err
	}
	return r, nil
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
	if r.service != nil && r.service.Process != nil {
		_ = r.service.Process.Kill()
		_ = r.service.Wait()
	}
	if r.server != nil {
		_ = r.server.Stop()
	}
	_ = os.RemoveAll(r.dir)
}

// resident returns the service's resident memory in bytes.
func (r *rig) resident() (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.service.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			return kib << 10, err
		}
	}
	return 0, errors.New("/proc has no VmRSS")
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
