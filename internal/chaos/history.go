//go:build linux

package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/internal/chaos/machine"
	"github.com/rebound-mq/rebound/internal/chaos/proof"
)

// Config configures histories.
type Config struct {
	// Rebound, NATSServer and RedisServer are the programs; kinds with Redis need the last.
	Rebound, NATSServer, RedisServer string
	// Clocked is Rebound built by [BuildClocked], for the kinds with wrong clocks.
	Clocked string
	// Lasting is how long faults and submissions go on; some kinds need longer.
	Lasting time.Duration
	// Rate is the number of submissions a second, 0 for the kind's own.
	Rate int
	// Drain bounds the time from the last fault until everything has ended, in addition to the
	// kind's Settle.
	Drain time.Duration
	// Dir is where each history makes a temporary directory for its files.
	Dir string
	// Keep is where the logs and the record of a history with violations are kept; nowhere when
	// empty.
	Keep string
}

func (c *Config) rate(k *Kind) int {
	if c.Rate > 0 {
		return c.Rate
	}
	return k.Rate
}

// history is a running history.
type history struct {
	kind   *Kind
	seed   uint64
	config *Config
	dir    string
	ctx    context.Context
	rng    *rand.Rand // for the operator alone

	cast
	closers []func()
	all     []*machine.Process

	// soaking is when the samples of a soak begin.
	soaking time.Time

	producing, reviving sync.WaitGroup

	mu          sync.Mutex
	record      *proof.Record // guarded by mu while the history runs
	submissions []*submission // guarded by mu
	ending      bool          // guarded by mu
	broken      error         // errors of the harness itself; guarded by mu
}

// cast are the participants of a history.
type cast struct {
	ports     *machine.Ports
	disk      *machine.Disk
	redis     *redisServer
	nodes     []*node
	instances []*instance
	wires     []*machine.Wire
	routes    map[[2]int]*machine.Wire
	target    *target
	operator  *operator
}

// Run runs one history. An error means that it could not be run, not that Rebound did anything
// wrong.
func Run(ctx context.Context, config Config, kind *Kind, seed uint64) (report *Report, err error) {
	began := time.Now()
	dir, err := os.MkdirTemp(config.Dir, "chaos-")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	h := &history{
		kind: kind, seed: seed, config: &config, dir: dir, ctx: ctx, rng: rand.New(rand.NewPCG(seed, 0)),
		cast:   cast{routes: make(map[[2]int]*machine.Wire)},
		record: &proof.Record{Kind: kind.Name, Seed: seed, Calm: kind.Calm, Skewed: kind.Clock, Limits: kind.limits()},
	}
	defer func() {
		cancel()
		h.close()
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	if err := h.run(ctx); err != nil {
		return nil, fmt.Errorf("history %s with seed %d: %w", kind.Name, seed, err)
	}
	h.halt()
	report = &Report{Record: h.record, Violations: proof.Check(h.record), Took: time.Since(began)}
	report.Logs = h.mentions(report.Violations)
	if len(report.Violations) > 0 && config.Keep != "" {
		if report.Kept, err = h.keep(report); err != nil {
			return nil, err
		}
	}
	return report, nil
}

func (h *history) run(ctx context.Context) error {
	if err := h.start(ctx); err != nil {
		return fmt.Errorf("starting: %w", err)
	}
	h.measure(ctx, false)
	js, err := h.torment(ctx)
	if err != nil {
		return err
	}
	if err := h.drain(ctx, js); err != nil {
		return err
	}
	if h.record.Drained {
		if err := h.replaySome(ctx, js); err != nil {
			return err
		}
	}
	h.measure(ctx, true)
	// The streams must not change while they are read.
	h.endInstances()
	if err := h.collect(ctx, js); err != nil {
		return fmt.Errorf("reading the streams: %w", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.broken
}

// start starts all participants.
func (h *history) start(ctx context.Context) error {
	var err error
	if h.ports, err = machine.TakePorts(); err != nil {
		return err
	}
	h.closers = append(h.closers, h.ports.Release)
	for _, step := range []func(context.Context) error{h.mountDisk, h.startRedis, h.startNodes, h.startInstances, h.startTarget, h.startOperator} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (h *history) startTarget(ctx context.Context) error {
	nc, err := h.connect("target")
	if err != nil {
		return err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	h.target = newTarget(nc, js, h.seed, h.kind.Fail)
	if err := h.target.listen(); err != nil {
		return err
	}
	if h.kind.Publish {
		return h.target.work(ctx)
	}
	return nil
}

// torment submits operations and causes faults for as long as the history lasts.
func (h *history) torment(ctx context.Context) (jetstream.JetStream, error) {
	nc, err := h.connect("producer")
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncErrHandler(func(jetstream.JetStream, *nats.Msg, error) {}))
	if err != nil {
		return nil, err
	}
	var soak sampler
	if h.kind.Soak {
		if drained, err := h.flood(ctx, js); err != nil || !drained {
			return js, err
		}
		soak.h, h.soaking = h, time.Now()
		sampling, end := context.WithCancel(ctx)
		soak.start(sampling)
		defer func() {
			end()
			soak.done.Wait()
			h.record.Series = soak.samples
		}()
	}
	lasting := max(h.config.Lasting, h.kind.Least)
	producing, stop := context.WithTimeout(ctx, min(lasting, max(h.config.Lasting, h.kind.Producing)))
	defer stop()
	var done sync.WaitGroup
	done.Go(func() { h.produce(producing, js) })
	faults, end := context.WithTimeout(ctx, lasting)
	defer end()
	h.operator.run(faults)
	done.Wait()
	return js, ctx.Err()
}

// endInstances stops the instances for good.
func (h *history) endInstances() {
	h.mu.Lock()
	h.ending = true
	h.mu.Unlock()
	h.reviving.Wait()
	for _, in := range h.instances {
		in.Kill()
	}
}

// halt kills all processes.
func (h *history) halt() {
	h.endInstances()
	for _, p := range h.all {
		p.Kill()
	}
}

func (h *history) close() {
	h.halt()
	for i := len(h.closers) - 1; i >= 0; i-- {
		h.closers[i]()
	}
	if h.target != nil {
		h.target.working.Wait()
	}
	h.producing.Wait()
}

// process makes a process that logs into the directory of the history. If it exits by itself that
// is recorded, unless the command has its own Ended.
func (h *history) process(c machine.Command) (*machine.Process, error) {
	log, err := os.Create(filepath.Join(h.dir, c.Name+".log"))
	if err != nil {
		return nil, err
	}
	h.closers = append(h.closers, func() { _ = log.Close() })
	c.Log = log
	if c.Ended == nil {
		c.Ended = h.exited
	}
	p := machine.NewProcess(c)
	h.all = append(h.all, p)
	return p, nil
}

// exited records that a process did not exit or come back as it should, unless the history is
// ending.
func (h *history) exited(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.ending {
		h.record.Exits = append(h.record.Exits, proof.Fault{At: time.Now(), What: what})
	}
}

// note records a fault.
func (h *history) note(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.record.Faults = append(h.record.Faults, proof.Fault{At: time.Now(), What: fmt.Sprintf(format, args...)})
}

// failed records that the harness could not do something.
func (h *history) failed(err error) {
	if err == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.broken = errors.Join(h.broken, err)
}
