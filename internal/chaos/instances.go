//go:build linux

package chaos

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// instance is one `rebound serve`.
type instance struct {
	*process
	http     int // port
	measured Instance
}

// startWait bounds how long processes may take to be ready.
const startWait = 90 * time.Second

// startInstances starts the instances, all at once, and waits until they are ready.
func (h *history) startInstances(ctx context.Context) error {
	policies := filepath.Join(h.dir, "policies.yaml")
	if err := os.WriteFile(policies, []byte(h.kind.Policy), 0o600); err != nil {
		return err
	}
	for i := range instanceCount {
		name := fmt.Sprintf("r%d", i+1)
		port, err := h.ports.take()
		if err != nil {
			return err
		}
		urls, err := h.serverURLs(name)
		if err != nil {
			return err
		}
		args := []string{
			"serve", "--nats", urls, "--replicas", strconv.Itoa(nodeCount), "--policies", policies,
			"--http", "127.0.0.1:" + strconv.Itoa(port), "--log-level", "warn",
		}
		if h.kind.Lease > 0 {
			args = append(args, "--lease", h.kind.Lease.String())
		}
		if h.redis != nil {
			args = append(args, "--redis", h.redis.url())
		}
		clocked := h.kind.Clock && i == 0
		program := h.config.Rebound
		if clocked {
			program = h.config.Clocked
		}
		p, err := h.process(name, program, args...)
		if err != nil {
			return err
		}
		if clocked {
			p.env = h.clockEnv()
		}
		in := &instance{process: p, http: port, measured: Instance{Name: name}}
		p.surprise = func(what string) { h.revive(in, what) }
		h.instances = append(h.instances, in)
		if err := in.start(); err != nil {
			return err
		}
	}
	for _, in := range h.instances {
		if err := await(ctx, startWait, func(ctx context.Context) bool { return in.ready(ctx) }); err != nil {
			return fmt.Errorf("instance %s is not ready: %w; it says: %s", in.name, err, lastLine(in.log.Name()))
		}
	}
	return nil
}

// revive starts an instance that ended by itself again, as a service manager does.
func (h *history) revive(in *instance, what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ending {
		return
	}
	h.record.Exits = append(h.record.Exits, Fault{time.Now(), what})
	h.reviving.Go(func() {
		if pause(h.ctx, time.Second) && !in.running() {
			h.failed(in.start())
		}
	})
}

// asking keeps no connection, so that none is to an instance that is gone.
var asking = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

func (in *instance) get(ctx context.Context, path string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%s", in.http, path), nil)
	if err != nil {
		return nil, err
	}
	return asking.Do(r)
}

// ready reports whether the instance says that it can work.
func (in *instance) ready(ctx context.Context) bool {
	answer, err := in.get(ctx, "/readyz")
	if err != nil {
		return false
	}
	defer answer.Body.Close()
	return answer.StatusCode == http.StatusOK
}

// goroutines returns how many the instance has, 0 when it does not say.
func (in *instance) goroutines(ctx context.Context) int {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	answer, err := in.get(ctx, "/metrics")
	if err != nil {
		return 0
	}
	defer answer.Body.Close()
	lines := bufio.NewScanner(answer.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if text, ok := strings.CutPrefix(lines.Text(), "go_goroutines "); ok {
			n, err := strconv.ParseFloat(text, 64)
			if err == nil {
				return int(n)
			}
		}
	}
	return 0
}

// measure reads what the instances hold, at first and at last.
func (h *history) measure(ctx context.Context, last bool) {
	for _, in := range h.instances {
		g, r := in.goroutines(ctx), in.resident()
		if last {
			in.measured.GoroutinesEnd, in.measured.ResidentEnd = g, r
		} else {
			in.measured.Goroutines, in.measured.Resident = g, r
		}
	}
}
