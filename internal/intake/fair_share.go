package intake

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/internal/backoff"
	"github.com/rebound-mq/rebound/internal/notify"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/scheduler"
)

const (
	// manyPending is how many submissions must wait before looking behind them begins.
	manyPending = 512
	// quantum is how many submissions of one service are taken in a round, and atOnce how
	// many are worked on at once.
	quantum = 128
	atOnce  = 64
	// shortestRest is the shortest pause between two rounds. After a round that listed many
	// subjects the pause is listRest times as long as the listing.
	shortestRest = 50 * time.Millisecond
	listRest     = 4
	// failedRest follows a round that failed in part.
	failedRest = 500 * time.Millisecond
	// warnEvery is how often the log tells of rounds that fail.
	warnEvery = 30 * time.Second
)

// FairShare gives each service a fair share of the intake. The consumer delivers
// submissions in order of arrival, so a flood of one service would delay all that come after
// it. While many wait, one instance looks behind the flood and takes in a few of every other
// service, round after round.
//
// A work queue's consumers may not overlap, so FairShare reads the stream itself, and two
// holders may get the same submission. Nothing is lost because of the order of the steps:
// the operation is stored, then the submission removed; what fails in between is left to the
// consumer. Nothing is run twice for three reasons:
//
//   - An operation is placed under the name of its submission, here and by the intake, and
//     for [events.DedupWindow] the server accepts nothing else under that name. That is proof
//     for the second holder, even if the slot is empty.
//   - The operation stays in its slot until the submission is gone: if this instance dies
//     before it could remove the submission, the first attempt does so before anything else.
//     So the consumer delivers the submission only while the slot is taken.
//   - It takes only submissions that the consumer, by its own latest answer, is far from. So
//     two holders rarely have the same one, and never for as long as the window.
//
// Older instances do not know this protocol, so nothing is taken ahead while there is one.
// Nor are submissions older than the consumer, because an earlier consumer may have
// delivered them. The consumer itself is not changed.
type FairShare struct {
	config      FairShareConfig
	submissions *Submissions
	pipeline    Pipeline
	tracker     *tracker
	warn        rate.Sometimes
	many        notify.Signal
	// taken counts the submissions taken ahead.
	taken atomic.Uint64

	// The fields below belong to the goroutine of Run.
	capability capability
	rounds     int
	// cursors are the sequences at which the next round continues, by service.
	cursors map[string]uint64
}

// Pipeline accepts operations ahead of their turn.
type Pipeline interface {
	// AcceptAhead stores an operation. The error is [scheduler.ErrInTurn] if it must wait
	// its turn, and an [*events.RejectedError] if it will be rejected then.
	AcceptAhead(ctx context.Context, op *events.Operation, m scheduler.Message) error
}

// Meter counts submissions that are taken in.
type Meter interface {
	Accepted(ctx context.Context, op *events.Operation)
	AcceptedAhead(ctx context.Context, op *events.Operation)
}

// FairShareConfig configures a [FairShare].
type FairShareConfig struct {
	// Prefix is the first token of the subjects.
	Prefix string
	// Consumer is the consumer of submissions, Service the micro service of all instances.
	Consumer, Service string
	// MaxPayload is the server's largest message.
	MaxPayload int64
	// Leads reports whether this instance is the one to look behind a flood, and how many
	// instances there are.
	Leads func() (instances int, ok bool)
	Meter Meter
	// Draining is closed when nothing more may begin.
	Draining <-chan struct{}
	Log      *slog.Logger
}

// NewFairShare returns the fair share of the submissions. Their JetStream should be on a
// connection of its own, so that taking ahead does not queue behind the intake.
func NewFairShare(submissions *Submissions, pipeline Pipeline, config FairShareConfig) *FairShare {
	return &FairShare{
		config: config, submissions: submissions, pipeline: pipeline,
		tracker: &tracker{js: submissions.js, stream: submissions.name, consumer: config.Consumer},
		warn:    rate.Sometimes{First: 1, Interval: warnEvery}, many: notify.NewSignal(),
		capability: capability{
			nc: submissions.js.Conn(), service: config.Service, prefix: config.Prefix, log: config.Log,
			warn: rate.Sometimes{First: 1, Interval: warnEvery},
		},
	}
}

// Pending records how many submissions wait. It never blocks.
func (f *FairShare) Pending(n uint64) {
	if n >= manyPending {
		f.many.Set()
	}
}

// Run looks behind floods whenever many submissions wait, until the instance drains. ctx
// bounds work that has begun.
func (f *FairShare) Run(ctx context.Context) {
	for f.rest(ctx, shortestRest) {
		select {
		case <-ctx.Done():
		case <-f.config.Draining:
		case <-f.many:
			f.whileMany(ctx)
		}
	}
}

// rest rests for d and reports whether to go on.
func (f *FairShare) rest(ctx context.Context, d time.Duration) bool {
	return backoff.SleepUnless(ctx, d, f.config.Draining) && !f.drains()
}

// drains reports whether nothing more may begin.
func (f *FairShare) drains() bool {
	select {
	case <-f.config.Draining:
		return true
	default:
		return false
	}
}

// whileMany goes round after round until few submissions wait or another instance does it.
func (f *FairShare) whileMany(ctx context.Context) {
	began, before := time.Now(), f.taken.Load()
	f.cursors = make(map[string]uint64)
	for {
		rest, more, err := f.look(ctx)
		if err != nil && ctx.Err() == nil {
			// What failed is retried; the server recognises stored operations by name.
			clear(f.cursors)
			f.warn.Do(func() { f.config.Log.Warn("looking behind many submissions failed", "error", err) })
			rest, more = failedRest, true
		}
		if !more || !f.rest(ctx, rest) {
			break
		}
	}
	if n := f.taken.Load() - before; n > 0 {
		f.config.Log.Info("submissions were taken in ahead of a service that has many", "taken", n, "for", time.Since(began).Round(time.Millisecond))
	}
}

// look makes one round if this instance leads. It returns how long to rest, and whether
// many submissions wait.
func (f *FairShare) look(ctx context.Context) (rest time.Duration, more bool, err error) {
	instances, leads := f.config.Leads()
	if !leads {
		return 0, false, nil
	}
	p, err := f.tracker.position(ctx)
	if err != nil || p.pending < manyPending {
		return 0, false, err
	}
	if !p.paced || !f.capability.ofAll(ctx, instances) {
		return freshFor, true, nil
	}
	rest, err = f.round(ctx, p.beyond())
	return rest, true, err
}

// round takes in some submissions of every service except the one whose turn it is. It
// returns how long to rest afterwards.
func (f *FairShare) round(ctx context.Context, from uint64) (time.Duration, error) {
	subjects := f.submissions.subjects
	next, err := f.submissions.next(ctx, from, subjects.Submissions())
	if err != nil || next == nil {
		return shortestRest, err
	}
	inTurn, _, _ := subjects.SplitSubmit(next.Subject)
	began := time.Now()
	counts, err := f.submissions.waiting(ctx, subjects.Submissions())
	rest := max(shortestRest, listRest*time.Since(began))
	if err != nil {
		return rest, err
	}
	delete(counts, inTurn)
	services := slices.Sorted(maps.Keys(counts))
	f.rounds++
	var working errgroup.Group
	working.SetLimit(atOnce)
	for i := range services {
		service := services[(i+f.rounds)%len(services)]
		cursor, err := f.serve(ctx, &working, service, max(from, f.cursors[service]))
		if err != nil {
			return rest, errors.Join(err, working.Wait())
		}
		f.cursors[service] = cursor
	}
	return rest, working.Wait()
}

// serve takes in some submissions of one service, the oldest first, and returns the sequence
// at which the next round continues. The rest is left to the consumer.
func (f *FairShare) serve(ctx context.Context, working *errgroup.Group, service string, from uint64) (uint64, error) {
	for range quantum {
		if f.drains() {
			return from, nil
		}
		m, err := f.submissions.next(ctx, from, f.submissions.subjects.Submit(service, "*"))
		if err != nil || m == nil {
			return from, err
		}
		from = m.Sequence + 1
		working.Go(func() error { return f.take(ctx, m) })
	}
	return from, nil
}

// take takes in one submission and removes it, or leaves it to the consumer.
func (f *FairShare) take(ctx context.Context, m *jetstream.RawStreamMsg) error {
	op, err := f.place(ctx, m)
	if errors.Is(err, scheduler.ErrInTurn) || errors.As(err, new(*events.RejectedError)) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("taking submission %d in ahead of its turn: %w", m.Sequence, err)
	}
	f.taken.Add(1)
	f.config.Meter.Accepted(ctx, op)
	f.config.Meter.AcceptedAhead(ctx, op)
	if err := f.submissions.delete(ctx, m.Sequence); err != nil {
		return fmt.Errorf("removing submission %d, which was taken in ahead of its turn: %w", m.Sequence, err)
	}
	return nil
}

// place stores the operation of a submission that the consumer is far from.
func (f *FairShare) place(ctx context.Context, m *jetstream.RawStreamMsg) (*events.Operation, error) {
	if wire.HeaderValue(m.Header, events.HeaderDeadSequence) != "" {
		return nil, scheduler.ErrInTurn
	}
	name := streams.MessageName(m.Sequence, m.Time)
	op, err := wire.DecodeSubmission(f.submissions.subjects, wire.Submission{
		Subject: m.Subject, Header: m.Header, Data: m.Data, Name: name, Received: m.Time,
	})
	if err != nil {
		return nil, err
	}
	if err := Fits(op, m.Header, m.Data, f.config.MaxPayload); err != nil {
		return nil, err
	}
	p, err := f.tracker.position(ctx)
	if err != nil {
		return nil, err
	}
	if m.Sequence < p.beyond() || !m.Time.After(p.created) {
		return nil, scheduler.ErrInTurn
	}
	op.Ahead = m.Sequence
	return op, f.pipeline.AcceptAhead(ctx, op, scheduler.Message{
		Subject: m.Subject, Name: name, Stored: m.Time, Header: m.Header, Data: m.Data,
	})
}
