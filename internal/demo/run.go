package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/internal/backoff"
)

// Options configure a run. The zero value runs until its context ends.
type Options struct {
	// Operations is how many operations are submitted; 0 means until ctx ends.
	Operations int
	// Timeout bounds the run; 0 is no bound.
	Timeout time.Duration
	// Seed determines the target's behaviour.
	Seed uint64
	// Payloads is a directory of JSON files to deliver. If empty, the npm package is used, which
	// npm fetches into CacheDir if it is not there; without npm or a network, payloads are made up.
	Payloads, CacheDir string
	// Environ is the environment for npm, in the form of [os.Environ].
	Environ []string
	// Keep keeps the store and the log.
	Keep bool
	// Version is the program's semantic version.
	Version string

	// Out shows the run; nil shows nothing.
	Out io.Writer
	// Size returns the width and the height of the terminal Out. Nil means that Out is not a
	// terminal and gets plain lines.
	Size func() (width, height int)
	// Color allows colours on a terminal.
	Color bool

	policies string
	script   script
}

// policies are the demo's policies: the built-in default but for what would make a run long.
const policies = `
default:
  circuitBreakerTimeout: 2s
  attemptTimeout: 2s
  maxDelay: 5s
`

const (
	// attemptTimeout is that of the policies.
	attemptTimeout = 2 * time.Second
	// endlessPace is the number of operations for which the pace of an endless run is computed.
	endlessPace = 500
	// settleTime is how long a run waits, once everything has ended, for events that must not
	// come any more.
	settleTime = 500 * time.Millisecond
	// closeTimeout bounds the end of a run.
	closeTimeout = 30 * time.Second
)

// ErrUnfinished means that a run was stopped before all its operations had ended. None of them is
// lost.
var ErrUnfinished = errors.New("not every operation has ended")

// The reasons for stopping a run.
var (
	errTimeUp      = errors.New("its time was up")
	errInterrupted = errors.New("it was interrupted")
)

func (o *Options) check() error {
	var errs []error
	if o.Operations < 0 {
		errs = append(errs, fmt.Errorf("the number of operations, %d, is negative", o.Operations))
	}
	if o.Timeout < 0 {
		errs = append(errs, fmt.Errorf("timeout %s is negative", o.Timeout))
	}
	if o.Out == nil {
		o.Out = io.Discard
	}
	if o.policies == "" {
		o.policies = policies
	}
	if o.script == nil {
		o.script = defaultScript
	}
	return errors.Join(errs...)
}

// Run delivers webhooks to a target that fails in several ways, submits those that fail and shows
// what becomes of them. The error is a [*FaultsError] if an operation did not end as it must, and
// [ErrUnfinished] if there was no time for all to end; the summary is valid in both cases.
func Run(ctx context.Context, o Options) (Summary, error) {
	if err := o.check(); err != nil {
		return Summary{}, err
	}
	from, err := loadPayloads(ctx, o)
	if err != nil {
		return Summary{}, err
	}
	s, err := openStage(ctx, o)
	if err != nil {
		return Summary{}, err
	}
	summary, err := newRun(s, o, from).run(ctx)
	summary.Source, summary.Payloads, summary.Seed = from.source, len(from.payloads), o.Seed
	// Keep the evidence of faults.
	summary.Kept, err = s.close(o.Keep || len(summary.Faults) > 0, err)
	return summary, err
}

// run is a running demo.
type run struct {
	stage  *stage
	goal   int
	limit  time.Duration
	tally  *tally
	target *target
	sender *sender
	watch  *watch
	view   view
	begun  time.Time
	// observed is the sequence of the last observed event.
	observed atomic.Uint64
}

func newRun(s *stage, o Options, from collection) *run {
	script := o.script.seeded(o.Seed)
	pace := script.pace(endlessPace)
	if o.Operations > 0 {
		pace = script.pace(o.Operations)
	}
	r := &run{stage: s, goal: o.Operations, limit: o.Timeout, tally: newTally(o.Operations), begun: time.Now()}
	b := behaviour{seed: o.Seed, timeout: attemptTimeout}
	r.sender = &sender{js: s.js, payloads: from.payloads, behaviour: b, perSecond: pace, goal: o.Operations, tally: r.tally}
	r.target = &target{
		nc: s.targetConn, script: script, behaviour: b, perSecond: pace / 2,
		again: func() bool { return !r.sender.done.Load() }, released: func() bool { return r.watch.empty() }, tally: r.tally,
	}
	r.watch = &watch{nc: s.ownConn, js: s.js, waiting: s.waiting}
	t := title{
		source: from.source, url: s.server.ClientURL(), seed: o.Seed, goal: o.Operations, script: script, policy: settings(o.policies),
	}
	if o.Size != nil {
		r.view = newScreen(o.Out, t, o.Size, o.Color)
	} else {
		r.view = newLines(o.Out, t)
	}
	return r
}

// run plays the demo and judges it.
func (r *run) run(ctx context.Context) (Summary, error) {
	consuming, err := r.observe(ctx)
	if err != nil {
		return Summary{}, err
	}
	defer consuming.Stop()
	due, err := r.followDue()
	if err != nil {
		return Summary{}, err
	}
	defer func() { _ = due.Unsubscribe() }()
	stopped := r.play(ctx)
	summary := Summary{Seconds: math.Round(time.Since(r.begun).Seconds()*10) / 10}
	r.view.close(r.frame())
	if stopped != nil {
		summary.Stopped = stopped.Error()
	}
	if stopped != nil && !errors.Is(stopped, errTimeUp) && !errors.Is(stopped, errInterrupted) {
		return summary, stopped
	}
	return r.judge(context.WithoutCancel(ctx), summary, stopped)
}

// play runs the target and the sender until every operation has ended. The error says why it
// stopped earlier.
func (r *run) play(ctx context.Context) error {
	var timeUp <-chan time.Time
	if r.limit > 0 {
		timer := time.NewTimer(r.limit)
		defer timer.Stop()
		timeUp = timer.C
	}
	group, playCtx := errgroup.WithContext(context.WithoutCancel(ctx))
	targetCtx, stopTarget := context.WithCancel(playCtx)
	defer stopTarget()
	sendCtx, stopSender := context.WithCancel(playCtx)
	defer stopSender()
	group.Go(func() error { return r.target.run(targetCtx) })
	group.Go(func() error { return r.sender.run(sendCtx) })
	group.Go(func() error { return r.watch.run(targetCtx) })

	ticker := time.NewTicker(refresh)
	defer ticker.Stop()
	wait := func() error {
		for {
			select {
			case <-r.tally.done:
				return nil
			case <-playCtx.Done():
				return nil // group.Wait returns the reason
			case <-ctx.Done():
				return errInterrupted
			case <-timeUp:
				return errTimeUp
			case <-ticker.C:
				r.view.show(r.frame())
			}
		}
	}
	stopped := wait()
	stopSender()
	if stopped == nil {
		backoff.Sleep(playCtx, settleTime)
	}
	// The target stays until the last attempt is made.
	drained := r.stage.drain(context.WithoutCancel(ctx))
	stopTarget()
	return errors.Join(group.Wait(), stopped, drained)
}

// frame returns the current state for display.
func (r *run) frame() frame {
	now := time.Now()
	mood, until := r.target.state()
	f := frame{at: now.Sub(r.begun), now: now, counts: r.tally.snapshot(now), mood: mood, left: -1, standing: r.watch.last()}
	if !until.IsZero() {
		f.left = max(until.Sub(now), 0)
	}
	return f
}

// judge checks that every operation ended as it must.
func (r *run) judge(ctx context.Context, summary Summary, stopped error) (Summary, error) {
	ctx, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()
	if err := r.catchUp(ctx); err != nil {
		return summary, err
	}
	r.tally.summarise(&summary)
	all := r.tally.evidence()
	dead, err := gather(ctx, r.stage.js, all)
	if err != nil {
		return summary, err
	}
	summary.DeadLetters = dead
	summary.Faults, summary.Unfinished = judge(all)
	return summary, summary.verdict(r.goal, stopped)
}

// catchUp waits until every stored event has been observed.
func (r *run) catchUp(ctx context.Context) error {
	stream, err := r.stage.js.Stream(ctx, r.stage.outcomes)
	if err != nil {
		return fmt.Errorf("reading stream %s: %w", r.stage.outcomes, err)
	}
	last := stream.CachedInfo().State.LastSeq
	for r.observed.Load() < last {
		if !backoff.Sleep(ctx, 10*time.Millisecond) {
			return fmt.Errorf("only %d of %d events were observed", r.observed.Load(), last)
		}
	}
	return nil
}

// observe follows the outcomes and the decisions.
func (r *run) observe(ctx context.Context) (jetstream.ConsumeContext, error) {
	consumer, err := r.stage.js.OrderedConsumer(ctx, r.stage.outcomes, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return nil, fmt.Errorf("following stream %s: %w", r.stage.outcomes, err)
	}
	consuming, err := consumer.Consume(r.event)
	if err != nil {
		return nil, fmt.Errorf("following stream %s: %w", r.stage.outcomes, err)
	}
	return consuming, nil
}

// followDue learns when operations are really due: an early release, after a breaker has closed,
// makes them due at once.
func (r *run) followDue() (*nats.Subscription, error) {
	due, err := r.stage.ownConn.Subscribe(events.Subjects{}.AllDue(), func(m *nats.Msg) {
		// An unreadable one is buried by the service, which the judgement sees.
		if op, err := wire.ReadState(m.Header); err == nil {
			r.tally.due(op.ID, op.Attempt+1, op.Due)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("following the due operations: %w", err)
	}
	return due, nil
}

// settings returns the settings of a policy file with one policy, in one line.
func settings(policies string) string {
	var words []string
	for line := range strings.Lines(policies) {
		if strings.HasPrefix(line, " ") {
			words = append(words, strings.Replace(strings.TrimSpace(line), ":", "", 1))
		}
	}
	return strings.Join(words, ", ")
}
