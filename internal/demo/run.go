package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/rebound-mq/rebound/internal/backoff"
)

// Options describe a run. The zero value runs until its context ends.
type Options struct {
	// Operations is how many operations are submitted; 0 goes on until ctx ends.
	Operations int
	// Timeout bounds the run, 0 not at all.
	Timeout time.Duration
	// Seed repeats the target's behaviour.
	Seed uint64
	// Payloads is a directory of JSON files to deliver. Empty takes those of the
	// npm package, which npm fetches into CacheDir if they are not there.
	Payloads, CacheDir string
	// Environ is the environment for npm, in the form of [os.Environ].
	Environ []string
	// Keep keeps the store and the log.
	Keep bool
	// Version is the program's, as a semantic version.
	Version string

	// Out is where the run is shown; nil shows nothing.
	Out io.Writer
	// Size returns the width and the height of the terminal that Out is. Nil
	// means that it is none, and gives plain lines.
	Size func() (width, height int)
	// Color allows colours on a terminal.
	Color bool

	policies string
	script   script
}

// policies are those of the demo. Every delay is short, so that the end is in
// sight.
const policies = `
default:
  maxAttempts: 10
  baseDelay: 400ms
  maxDelay: 4s
  multiplier: 2
  backoffStrategy: exponential
  jitterType: equal
  attemptTimeout: 1s
  target: "{service}.{operation}"
`

const (
	// attemptTimeout is that of the policies.
	attemptTimeout = time.Second
	// endlessPace is for how many operations the pace of an endless run is.
	endlessPace = 500
	// settleTime is how long is waited, once everything has ended, for what must
	// not come any more.
	settleTime = 500 * time.Millisecond
	// closeTimeout bounds the end of a run.
	closeTimeout = 30 * time.Second
)

// ErrUnfinished says that a run was stopped before all its operations had ended.
// None of them is lost.
var ErrUnfinished = errors.New("not every operation has ended")

// What stops a run.
var (
	errTimeUp      = errors.New("its time was up")
	errInterrupted = errors.New("it was interrupted")
)

func (o *Options) check() error {
	var faults []error
	if o.Operations < 0 {
		faults = append(faults, fmt.Errorf("%d operations are fewer than none", o.Operations))
	}
	if o.Timeout < 0 {
		faults = append(faults, fmt.Errorf("timeout %s is negative", o.Timeout))
	}
	if o.Out == nil {
		o.Out = io.Discard
	}
	if o.policies == "" {
		o.policies = policies
	}
	if o.script == nil {
		o.script = theScript
	}
	return errors.Join(faults...)
}

// Run delivers webhooks to a target that falls ill, submits those that fail and
// shows what becomes of them. The error is a [*FaultsError] if an operation did
// not end as it must, and [ErrUnfinished] if there was no time for all to end;
// the summary says how the run went all the same.
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
	// What went wrong is worth a look.
	summary.Kept, err = s.close(o.Keep || len(summary.Faults) > 0, err)
	return summary, err
}

// run is a demo under way.
type run struct {
	stage  *stage
	goal   int
	limit  time.Duration
	tally  *tally
	target *target
	sender *sender
	view   view
	begun  time.Time
	// observed is the sequence of the last event that was observed.
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
		nc: s.targetConn, events: from.events(), script: script, behaviour: b, perSecond: pace / 3,
		again: func() bool { return !r.sender.done.Load() }, tally: r.tally,
	}
	t := title{source: from.source, url: s.server.ClientURL(), seed: o.Seed, goal: o.Operations, script: script}
	if o.Size != nil {
		r.view = newScreen(o.Out, t, o.Size, o.Color)
	} else {
		r.view = newLines(o.Out, t)
	}
	return r
}

// run plays the demo and judges it.
func (r *run) run(ctx context.Context) (Summary, error) {
	events, err := r.observe(ctx)
	if err != nil {
		return Summary{}, err
	}
	defer events.Stop()
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

// play lets the target and the sender do their part until every operation has
// ended. The error says why that is not so.
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

	ticker := time.NewTicker(refresh)
	defer ticker.Stop()
	wait := func() error {
		for {
			select {
			case <-r.tally.done:
				return nil
			case <-playCtx.Done():
				return nil // group has the reason
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
	// The target is there until the last attempt is made.
	drained := r.stage.drain(context.WithoutCancel(ctx))
	stopTarget()
	return errors.Join(group.Wait(), stopped, drained)
}

// frame returns what there is to be shown now.
func (r *run) frame() frame {
	now := time.Now()
	mood, until := r.target.state()
	f := frame{at: now.Sub(r.begun), counts: r.tally.snapshot(now), mood: mood, left: -1}
	if !until.IsZero() {
		f.left = max(until.Sub(now), 0)
	}
	return f
}

// judge finds out whether every operation ended as it must.
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

// catchUp waits until every event that is stored has been observed.
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
