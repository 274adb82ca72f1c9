package handlers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
	"github.com/synadia-io/orbit.go/natsext"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/internal/opstore"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/scheduler"
)

const (
	// aheadPending is how many submissions wait when a look ahead begins.
	aheadPending = 512
	// aheadQuantum is how many submissions of one service are taken in a round, and
	// aheadAtOnce how many are worked on at once.
	aheadQuantum = 128
	aheadAtOnce  = 64
	// aheadRest is the shortest rest between two rounds. After a round that listed
	// many subjects it is listRest times as long as the list took.
	aheadRest = 50 * time.Millisecond
	listRest  = 4
	// failedRest is how long to rest after a round of which something failed.
	failedRest = 500 * time.Millisecond
	// freshFor is how long it is relied on where the consumer stands. The consumer
	// must be aheadTime and aheadMessages away from what is taken; the rest of that
	// time is for storing the operation and removing its submission.
	freshFor      = 100 * time.Millisecond
	aheadTime     = 600 * time.Millisecond
	aheadMessages = 64
	// askEvery is how often all instances are asked whether they can bear with it.
	// They are given askTimeout, and asked again after askAgain if they cannot.
	askEvery   = 10 * time.Second
	askAgain   = time.Second
	askTimeout = time.Second
	warnAhead  = 30 * time.Second
)

// An instance says in the metadata of its micro service that it knows of operations
// that were taken in before their turn.
const (
	aheadMetadata = "intake"
	aheadCapable  = "ahead"
)

// ahead gives each service a fair share of the intake. The consumer hands out
// submissions in the order in which they came, so that a flood of one service would
// delay all that come after it. While many wait, one instance looks behind the flood
// and takes in a few of every other service, round after round, each in its turn.
//
// A work queue's consumers may not overlap, so it reads the stream itself, and the
// same submission may come to two. That nothing is lost follows from the order of the
// steps: the operation is stored, then the submission removed; what fails in between
// is left to the consumer. That nothing is run twice rests on three things:
//
//   - an operation is placed under the name of its submission, here and by the
//     intake, and [events.DedupWindow] long the server takes nothing under that name
//     again. It is proof for whoever comes second, even to an empty slot;
//   - the operation stays in its slot until the submission is gone: the first attempt
//     removes it before it does anything else, should this instance die before it
//     could. So the consumer has it to hand out only while the slot is taken;
//   - it takes only what the consumer is well away from, as that just said itself. So
//     next to nothing is in two hands, and nothing for as long as the window.
//
// An older instance knows of none of that, so nothing is taken ahead while one is
// there, nor is what is older than the consumer: another one may have handed it out.
// The consumer itself stays as it was.
type ahead struct {
	js          jetstream.JetStream
	store       *opstore.Store
	streams     events.Streams
	intake      *intake
	pipeline    *scheduler.Pipeline
	submissions *submissions
	consumer    string
	// leads reports whether this instance is the one that looks ahead, and how many
	// there are.
	leads func() (instances int, ok bool)
	log   *slog.Logger
	warn  rate.Sometimes

	draining <-chan struct{}
	wake     chan struct{}
	// took counts what was taken ahead.
	took atomic.Uint64

	mu sync.Mutex // guards what follows
	// stands is where the consumer stood last.
	stands position

	// What follows is of the goroutine of run.
	asked   time.Time
	askedOf int // how many instances
	capable bool
	rounds  int
	// cursors are from where on the submissions of a service are looked at.
	cursors map[string]uint64
}

// noticed is told how many submissions wait.
func (a *ahead) noticed(pending uint64) {
	if pending < aheadPending {
		return
	}
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// run looks ahead whenever many submissions wait, until it is to drain. ctx bounds
// the work on what it has begun.
func (a *ahead) run(ctx context.Context) {
	for a.rest(ctx, aheadRest) {
		select {
		case <-ctx.Done():
		case <-a.draining:
		case <-a.wake:
			a.whileMany(ctx)
		}
	}
}

// rest reports whether to go on after that time.
func (a *ahead) rest(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return !a.drains()
	case <-ctx.Done():
	case <-a.draining:
	}
	return false
}

// drains reports whether nothing more is to be begun.
func (a *ahead) drains() bool {
	select {
	case <-a.draining:
		return true
	default:
		return false
	}
}

// position is where the consumer of the intake stands.
type position struct {
	at        time.Time // when this was asked
	delivered uint64    // the last sequence that was handed out
	pending   uint64
	created   time.Time // when the consumer was made
	perSecond float64   // how fast it goes on
	paced     bool      // whether that is known
}

// beyond returns the first sequence that the consumer is well away from.
func (p position) beyond() uint64 {
	return p.delivered + uint64(p.perSecond*aheadTime.Seconds()) + aheadMessages + 1
}

// next returns the position that follows p at now.
func (p position) next(info *jetstream.ConsumerInfo, now time.Time) position {
	n := position{at: now, delivered: info.Delivered.Stream, pending: info.NumPending, created: info.Created}
	if now.Sub(p.at) > streams.CallTimeout || n.delivered < p.delivered {
		return n // p is of a time long ago or of another consumer
	}
	n.paced = true
	// It is not much slower than it just was.
	n.perSecond = max(float64(n.delivered-p.delivered)/now.Sub(p.at).Seconds(), p.perSecond*0.9)
	return n
}

// position returns where the consumer stands, asking when that is not fresh.
func (a *ahead) position(ctx context.Context) (position, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	if now.Sub(a.stands.at) < freshFor {
		return a.stands, nil
	}
	ctx, cancel := context.WithTimeout(ctx, streams.CallTimeout)
	defer cancel()
	c, err := a.js.Consumer(ctx, a.streams.Intake(), a.consumer)
	if err != nil {
		return position{}, fmt.Errorf("reading consumer %s: %w", a.consumer, err)
	}
	a.stands = a.stands.next(c.CachedInfo(), now)
	return a.stands, nil
}

// whileMany looks ahead until few submissions wait or another instance does it.
func (a *ahead) whileMany(ctx context.Context) {
	began, before := time.Now(), a.took.Load()
	a.cursors = make(map[string]uint64)
	for {
		rest, more, err := a.look(ctx)
		if err != nil && ctx.Err() == nil {
			// What failed is tried again; what was stored of it is known by its name.
			clear(a.cursors)
			a.warn.Do(func() { a.log.Warn("looking behind many submissions failed", "error", err) })
			rest, more = failedRest, true
		}
		if !more || !a.rest(ctx, rest) {
			break
		}
	}
	if n := a.took.Load() - before; n > 0 {
		a.log.Info("submissions were taken in ahead of a service that has many", "taken", n, "for", time.Since(began).Round(time.Millisecond))
	}
}

// look looks ahead once, if it is this instance that does. It returns how long to
// rest, and whether many submissions wait.
func (a *ahead) look(ctx context.Context) (rest time.Duration, more bool, err error) {
	instances, leads := a.leads()
	if !leads {
		return 0, false, nil
	}
	p, err := a.position(ctx)
	if err != nil || p.pending < aheadPending {
		return 0, false, err
	}
	if !p.paced || !a.bearable(ctx, instances) {
		return freshFor, true, nil
	}
	rest, err = a.round(ctx, p.beyond())
	return rest, true, err
}

// round takes in some submissions of every service but the one whose turn it is. It
// returns how long to rest afterwards.
func (a *ahead) round(ctx context.Context, from uint64) (time.Duration, error) {
	next, err := a.next(ctx, from, a.intake.subjects.Submissions())
	if err != nil || next == nil {
		return aheadRest, err
	}
	inTurn, _, _ := a.intake.subjects.SplitSubmit(next.Subject)
	began := time.Now()
	counts, err := a.submissions.waiting(ctx, a.intake.subjects.Submissions())
	rest := max(aheadRest, listRest*time.Since(began))
	if err != nil {
		return rest, err
	}
	delete(counts, inTurn)
	services := slices.Sorted(maps.Keys(counts))
	a.rounds++
	var working errgroup.Group
	working.SetLimit(aheadAtOnce)
	for i := range services {
		service := services[(i+a.rounds)%len(services)]
		at, err := a.serve(ctx, &working, service, max(from, a.cursors[service]))
		if err != nil {
			return rest, errors.Join(err, working.Wait())
		}
		a.cursors[service] = at
	}
	return rest, working.Wait()
}

// serve has some submissions of one service taken in, the oldest first, and returns
// from where on it is to be looked at next. What is not taken is left to the consumer.
func (a *ahead) serve(ctx context.Context, working *errgroup.Group, service string, from uint64) (uint64, error) {
	for range aheadQuantum {
		if a.drains() {
			return from, nil
		}
		m, err := a.next(ctx, from, a.intake.subjects.Submit(service, "*"))
		if err != nil || m == nil {
			return from, err
		}
		from = m.Sequence + 1
		working.Go(func() error { return a.take(ctx, m) })
	}
	return from, nil
}

// next returns the first submission from a sequence on, nil when there is none.
func (a *ahead) next(ctx context.Context, from uint64, subject string) (*jetstream.RawStreamMsg, error) {
	ctx, cancel := context.WithTimeout(ctx, streams.CallTimeout)
	defer cancel()
	m, err := streams.LeaderGet(ctx, a.js, a.streams.Intake(), streams.NextBySubject(from, subject))
	if streams.IsGone(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", subject, err)
	}
	return m, nil
}

// take takes in one submission and removes it. What the consumer should rather hand
// out stays for it.
func (a *ahead) take(ctx context.Context, m *jetstream.RawStreamMsg) error {
	op, err := a.place(ctx, m)
	if errors.Is(err, scheduler.ErrInTurn) || errors.As(err, new(*events.RejectedError)) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("taking submission %d in ahead of its turn: %w", m.Sequence, err)
	}
	a.took.Add(1)
	a.intake.metrics.Accepted(ctx, op)
	a.intake.metrics.AcceptedAhead(ctx, op)
	if err := a.submissions.delete(ctx, m.Sequence); err != nil {
		return fmt.Errorf("removing submission %d, which was taken in ahead of its turn: %w", m.Sequence, err)
	}
	return nil
}

// place stores the operation of a submission that the consumer is well away from.
func (a *ahead) place(ctx context.Context, m *jetstream.RawStreamMsg) (*events.Operation, error) {
	if wire.HeaderValue(m.Header, events.HeaderDeadSequence) != "" {
		return nil, scheduler.ErrInTurn
	}
	op, err := wire.DecodeSubmission(a.intake.subjects, wire.Submission{
		Subject: m.Subject, Header: m.Header, Data: m.Data, Name: streams.MessageName(m.Sequence, m.Time), Received: m.Time,
	})
	if err != nil {
		return nil, err
	}
	if err := a.intake.Fits(op, m.Header, m.Data); err != nil {
		return nil, err
	}
	p, err := a.position(ctx)
	if err != nil {
		return nil, err
	}
	if m.Sequence < p.beyond() || !m.Time.After(p.created) {
		return nil, scheduler.ErrInTurn
	}
	op.Ahead = m.Sequence
	return op, a.pipeline.AcceptAhead(ctx, op, scheduler.Message{
		Subject: m.Subject, Name: streams.MessageName(m.Sequence, m.Time), Stored: m.Time, Header: m.Header, Data: m.Data,
	})
}

// bearable reports whether every instance knows of operations that were taken in
// ahead of their turn.
func (a *ahead) bearable(ctx context.Context, instances int) bool {
	every := askEvery
	if !a.capable {
		every = askAgain
	}
	if time.Since(a.asked) < every && a.askedOf == instances {
		return a.capable
	}
	err := a.ask(ctx, instances)
	a.asked, a.askedOf, a.capable = time.Now(), instances, err == nil
	if err != nil && ctx.Err() == nil {
		a.warn.Do(func() {
			a.log.Warn("a service that has many submissions delays the others: not every instance is known to be of this version", "error", err)
		})
	}
	return a.capable
}

// ask asks the instances who they are. The error says why not all of them are known
// to be capable.
func (a *ahead) ask(ctx context.Context, instances int) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	replies, err := natsext.RequestMany(ctx, a.js.Conn(), micro.APIPrefix+".INFO."+ServiceName, nil)
	if err != nil {
		return fmt.Errorf("asking for the instances: %w", err)
	}
	answered := 0
	for m, err := range replies {
		if errors.Is(err, nats.ErrNoResponders) {
			break
		}
		if err != nil {
			return fmt.Errorf("asking for the instances: %w", err)
		}
		var info micro.Info
		if err := json.Unmarshal(m.Data, &info); err != nil {
			return fmt.Errorf("decoding the answer of an instance: %w", err)
		}
		if info.Metadata["prefix"] != a.intake.subjects.Prefix {
			continue
		}
		if info.Metadata[aheadMetadata] != aheadCapable {
			return fmt.Errorf("instance %s of version %s is older", info.ID, info.Version)
		}
		if answered++; answered >= instances {
			return nil
		}
	}
	return fmt.Errorf("%d of %d instances answered", answered, instances)
}
