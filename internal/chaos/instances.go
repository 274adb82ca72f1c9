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

	"github.com/rebound-mq/rebound/internal/backoff"
	"github.com/rebound-mq/rebound/internal/chaos/machine"
	"github.com/rebound-mq/rebound/internal/chaos/proof"
)

// instance is one `rebound serve`.
type instance struct {
	*machine.Process
	http     int // port
	measured proof.Instance
}

// startWait bounds how long a process may take to be ready.
const startWait = 90 * time.Second

// startInstances starts all instances at once and waits until they are ready.
func (h *history) startInstances(ctx context.Context) error {
	policies := filepath.Join(h.dir, "policies.yaml")
	if err := os.WriteFile(policies, []byte(h.kind.Policy), 0o600); err != nil {
		return err
	}
	for i := range instanceCount {
		if err := h.startInstance(i, policies); err != nil {
			return err
		}
	}
	for _, in := range h.instances {
		if err := await(ctx, startWait, func(ctx context.Context) bool { return in.ready(ctx) }); err != nil {
			return fmt.Errorf("instance %s is not ready: %w; it says: %s", in.Name, err, machine.LastLine(in.Log.Name()))
		}
	}
	return nil
}

// startInstance starts the i-th instance with a policy file.
func (h *history) startInstance(i int, policies string) error {
	name := fmt.Sprintf("r%d", i+1)
	port, err := h.ports.Take()
	if err != nil {
		return err
	}
	urls, err := h.serverURLs(name)
	if err != nil {
		return err
	}
	in := &instance{http: port, measured: proof.Instance{Name: name}}
	c := machine.Command{Name: name, Path: h.config.Rebound, Ended: func(what string) { h.revive(in, what) }}
	c.Args = []string{
		"serve", "--nats", urls, "--replicas", strconv.Itoa(nodeCount), "--policies", policies,
		"--http", "127.0.0.1:" + strconv.Itoa(port), "--log-level", "warn",
	}
	if h.kind.Lease > 0 {
		c.Args = append(c.Args, "--lease", h.kind.Lease.String())
	}
	if h.redis != nil {
		c.Args = append(c.Args, "--redis", h.redis.url())
	}
	if h.kind.Clock && i == 0 {
		c.Path, c.Env = h.config.Clocked, h.clockEnv()
	}
	if in.Process, err = h.process(c); err != nil {
		return err
	}
	h.instances = append(h.instances, in)
	return in.Start()
}

// revive restarts an instance that exited by itself, as a service manager does.
func (h *history) revive(in *instance, what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ending {
		return
	}
	h.record.Exits = append(h.record.Exits, proof.Fault{At: time.Now(), What: what})
	h.reviving.Go(func() {
		if backoff.Sleep(h.ctx, time.Second) && !in.Running() {
			h.failed(in.Start())
		}
	})
}

// asking keeps no connections alive, because instances come and go.
var asking = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

func (in *instance) get(ctx context.Context, path string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%s", in.http, path), nil)
	if err != nil {
		return nil, err
	}
	return asking.Do(r)
}

// ready reports whether the instance answers that it is ready.
func (in *instance) ready(ctx context.Context) bool {
	answer, err := in.get(ctx, "/readyz")
	if err != nil {
		return false
	}
	defer answer.Body.Close()
	return answer.StatusCode == http.StatusOK
}

// goroutines returns the instance's number of goroutines, 0 if it does not answer.
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

// measure measures the instances, at the beginning or, with last, at the end.
func (h *history) measure(ctx context.Context, last bool) {
	for _, in := range h.instances {
		g, r := in.goroutines(ctx), in.Resident()
		if last {
			in.measured.GoroutinesEnd, in.measured.ResidentEnd = g, r
		} else {
			in.measured.Goroutines, in.measured.Resident = g, r
		}
	}
}

// clockErrors are the possible errors of a clock, in seconds.
var clockErrors = []int{3600, -3600, 2, -2, 30, -30, 0}

// clockStep restarts the first instance with a wrong clock, and changes the error a while later.
func clockStep(ctx context.Context, o *operator) {
	in := o.h.instances[0]
	first, then := clockErrors[o.rng.IntN(len(clockErrors))], clockErrors[o.rng.IntN(len(clockErrors))]
	later := o.between(time.Second, 4*time.Second)
	in.Env = []string{fmt.Sprintf("%s=0 %d %d %d", machine.ClockVariable, first, later.Milliseconds(), then)}
	o.h.note("the clock of %s is %d s ahead, and %d s ahead after %s", in.Name, first, then, later.Round(time.Millisecond))
	o.replace(ctx, in, false, 0)
	backoff.Sleep(ctx, later+o.between(time.Second, 3*time.Second))
}

// clockEnv sets the initial error of the first instance's clock.
func (h *history) clockEnv() []string { return []string{machine.ClockVariable + "=0 3600"} }
