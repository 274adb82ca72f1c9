package natspath

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/rebound-mq/rebound/bench/compare"
)

// policies let every operation come back when its submission asks for it, or else after the least
// delay that Rebound knows.
const policies = `
default: {maxAttempts: 5, baseDelay: 1ms, maxDelay: 48h, backoffStrategy: fixed, jitterType: none, attemptTimeout: 10s}
`

// rebound is one form of Rebound.
type rebound struct {
	// binary is the program.
	binary string
	// embedded says that the program runs the NATS server itself, and durable that the outcomes
	// are read by a durable consumer that acks each of them, instead of a plain subscriber.
	embedded, durable bool
	// flags are further ones of the program.
	flags []string
}

// Rebound is the program binary in each of its forms.
func Rebound(binary string) []compare.Contender {
	var all []compare.Contender
	for _, r := range []rebound{{}, {durable: true}, {embedded: true}, {embedded: true, durable: true}} {
		r.binary = binary
		all = append(all, r.contender())
	}
	return all
}

// Steady is Rebound with a server of its own that takes no less while the machine is busy, so that
// what it spends for an operation does not depend on that.
func Steady(binary string) compare.Contender {
	return rebound{binary: binary, flags: []string{
		"--pressure-scheduler-delay", "off", "--pressure-cpu", "off", "--pressure-store-delay", "off",
	}}.contender()
}

func (r rebound) contender() compare.Contender {
	return compare.Contender{
		Name: r.name(),
		About: compare.About{
			Version: "this one, nats-server " + server.VERSION,
			Path: "a service hands over what has failed (attempt 1), the submission is stored; the operation is stored as due or parked, with an event; " +
				"a NATS request to the target; the outcome is stored",
			Settings: "file storage, sync_interval 2m, the policy's delays without jitter" + map[bool]string{true: "; the harness reads outcomes by a durable consumer and acks each"}[r.durable],
			Keeps:    "at least once with repeats marked, one outcome, all of it through kill -9; breakers, budgets, priorities, dead letters; a power cut loses what was not synced",
			Lacks:    "",
		},
		Missing: r.missing,
		Start:   r.start,
	}
}

func (r rebound) name() string {
	name := "rebound"
	if r.embedded {
		name += " embedded"
	}
	if r.durable {
		name += " durable"
	}
	return name
}

func (r rebound) missing() string {
	if _, err := exec.LookPath(r.binary); err != nil {
		return fmt.Sprintf("the program is not built (%v): make build", err)
	}
	return ""
}

func (r rebound) start(ctx context.Context, dir string) (compare.Instance, error) {
	i := &instance{submit: submitToRebound}
	return i.started(r.startIn(ctx, dir, i))
}

func (r rebound) startIn(ctx context.Context, dir string, i *instance) error {
	var flags []string
	var url string
	if r.embedded {
		port, err := freePort(ctx)
		if err != nil {
			return err
		}
		address := "127.0.0.1:" + strconv.Itoa(port)
		url, flags = "nats://"+address, []string{"--listen", address, "--store-dir", filepath.Join(dir, "rebound")}
	} else {
		s, at, err := StartServer(ctx, dir)
		if err != nil {
			return err
		}
		i.runs(compare.RoleServer, s)
		url, flags = at, []string{"--nats", at}
	}
	role := compare.RoleService
	if r.embedded {
		role = compare.RoleBoth
	}
	if err := i.serve(ctx, r.binary, dir, role, append(flags, r.flags...)); err != nil {
		return err
	}
	return i.listen(ctx, url, r.durable)
}

// serve starts the program and waits until it is ready.
func (i *instance) serve(ctx context.Context, binary, dir, role string, flags []string) error {
	file := filepath.Join(dir, "policies.yaml")
	if err := os.WriteFile(file, []byte(policies), 0o600); err != nil {
		return err
	}
	port, err := freePort(ctx)
	if err != nil {
		return err
	}
	address := "127.0.0.1:" + strconv.Itoa(port)
	p, err := compare.StartProgram(ctx, binary, append([]string{"serve", "--http", address, "--log-level", "warn", "--policies", file}, flags...)...)
	if err != nil {
		return err
	}
	i.runs(role, p)
	previous := i.mallocs
	i.mallocs = func(ctx context.Context) (n uint64, err error) {
		if previous != nil {
			if n, err = previous(ctx); err != nil {
				return 0, err
			}
		}
		mine, err := mallocsAt(ctx, address)
		return n + mine, err
	}
	return await(ctx, time.Minute, func() (bool, error) {
		body, err := get(ctx, "http://"+address+"/readyz")
		if err == nil {
			err = body.Close()
		}
		return err == nil, nil // until the minute is over
	})
}

// listen connects the harness and has it count the outcomes.
func (i *instance) listen(ctx context.Context, url string, durable bool) (err error) {
	if i.harness, err = connect(url); err != nil {
		return err
	}
	i.park = i.parkInRebound
	if durable {
		return i.readOutcomes(ctx)
	}
	return i.hearOutcomes()
}

// mallocsAt reads how many objects the program has allocated from its metrics.
func mallocsAt(ctx context.Context, address string) (uint64, error) {
	body, err := get(ctx, "http://"+address+"/metrics")
	if err != nil {
		return 0, err
	}
	defer func() { _ = body.Close() }()
	lines := bufio.NewScanner(body)
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), "go_memstats_mallocs_total "); ok {
			n, err := strconv.ParseFloat(value, 64)
			return uint64(n), err
		}
	}
	return 0, errors.Join(errors.New("the metrics have no go_memstats_mallocs_total"), lines.Err())
}

func get(ctx context.Context, url string) (io.ReadCloser, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, errors.Join(fmt.Errorf("%s answers %s", url, response.Status), response.Body.Close())
	}
	return response.Body, nil
}

// freePort returns a port of the loopback that was free a moment ago.
func freePort(ctx context.Context) (int, error) {
	var c net.ListenConfig
	l, err := c.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	port := l.Addr().(*net.TCPAddr).Port
	return port, l.Close()
}
