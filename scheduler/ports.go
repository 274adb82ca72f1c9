package scheduler

import (
	"context"
	"errors"
	"time"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/health"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

// Store is where operations wait and end. Every method returns only when what
// it stored is acknowledged, retries what passes by itself for as long as ctx
// lives, and is idempotent. When it is not known what became of a try, the state
// that is stored by a later one is contested, since m.Stored.
type Store interface {
	// Place stores op as waiting until op.Due in the place of version
	// m.Version, 0 being nothing. It returns [ErrMoved] when another version is
	// there, and [ErrTaken] when the submission m.Name was stored before.
	Place(ctx context.Context, op *events.Operation, m Message) error
	// Hold stores op in its lane in the place of version m.Version, until the
	// gate of its key opens or its deadline is over. It returns [ErrMoved] when
	// another version is there.
	Hold(ctx context.Context, op *events.Operation, m Message) error
	// Watch stores op, which a worker is given, as waiting until op.Due in the
	// place of version m.Version, and returns m as the holder of what it stored.
	// It returns [ErrMoved] when another version is there.
	Watch(ctx context.Context, op *events.Operation, m Message) (Message, error)
	// Find returns the operation as it waits; ok is false when none is seen, which
	// proves nothing. It returns [ErrForeign] when something else stands there.
	Find(ctx context.Context, op *events.Operation) (w Waiting, ok bool, err error)
	// Remove takes away the waiting version, or returns [ErrMoved].
	Remove(ctx context.Context, op *events.Operation, version uint64) error
	// Bury keeps the operation as a dead letter.
	Bury(ctx context.Context, op *events.Operation, m Message, reason events.Reason, detail string) error
	// Ended publishes the outcome of an operation. It returns [ErrShared] when that
	// took so long that another holder, or an earlier try, may have told of it.
	Ended(ctx context.Context, op *events.Operation, m Message, outcome events.Outcome) error
	// Scheduled publishes a decision.
	Scheduled(ctx context.Context, op *events.Operation, event events.Scheduled) error
}

// Message is an operation's submission as it came. The pipeline carries it
// along and reads nothing of it.
type Message struct {
	// Subject is where it was submitted, empty once the operation waits.
	Subject string
	// Name names the submission for ever, empty once the operation waits. By it a
	// store recognises that it has taken the submission in.
	Name   string
	Header map[string][]string
	Data   []byte
	// Version is the operation's version in the store from which this holder
	// got it, 0 when it is not in the store yet.
	Version uint64
	// Place is where in the store that version stands, for the store alone to
	// read.
	Place string
	// Stored is when that version, or the submission, was stored.
	Stored time.Time
	// Shared reports whether another holder may have the same version or submission
	// as well; nil means never.
	Shared func() bool
}

func (m Message) shared() bool { return m.Shared != nil && m.Shared() }

// Waiting is what the store knows of an operation that waits, is held or is due.
type Waiting struct {
	// Version, Place and Stored are those of a [Message].
	Version uint64
	Place   string
	Stored  time.Time
	// InFlight is whether it is due, so that an instance has or will have it in
	// hand, or a worker has it.
	InFlight bool
	// Op is the stored state, and Header and Data are what was submitted.
	Op     *events.Operation
	Header map[string][]string
	Data   []byte
}

// ErrMoved says that the store refused a write because another version stands in
// the operation's slot than the one that was expected. It does not say which, so it
// proves nothing; see [Pipeline].
var ErrMoved = errors.New("another version of the operation is stored")

// ErrTaken says that a submission was taken in before, whatever has become of its
// operation since.
var ErrTaken = errors.New("the submission was taken in before")

// ErrShared says that another holder may have got the operation while something was
// stored of it.
var ErrShared = errors.New("another may have the operation as well by now")

// ErrForeign says that what stands in the place of an operation is none: somebody
// else published it there.
var ErrForeign = errors.New("what stands in its place is no operation")

// Ends knows how runs of operations ended.
type Ends interface {
	// Concluded reports whether the run of op has ended since a time: its outcome is
	// stored, or a dead letter whose outcome Concluded then publishes. False proves
	// nothing. It is safe for concurrent use.
	Concluded(ctx context.Context, op *events.Operation, since time.Time) (bool, error)
}

// Target is what attempts are made at.
type Target interface {
	// Deliver makes one attempt. The error means that it is not known how the
	// attempt went, for a reason that is not the target's.
	Deliver(ctx context.Context, op *events.Operation, m Message, a Attempt) (Reply, error)
}

// Attempt says where, and how, one attempt is made.
type Attempt struct {
	// Subject is where the operation goes.
	Subject string
	// Number is the attempt's, from 2: attempt 1 was made by whoever submitted the
	// operation.
	Number int
	// Repeated is whether the attempt may have been made before.
	Repeated bool
	// Timeout is how long it may take.
	Timeout time.Duration
}

// Reply is how a target answered an attempt.
type Reply struct {
	// Failed is whether the attempt failed; Failure says how.
	Failed  bool
	Failure policy.Failure
	// Duration is how long the attempt took.
	Duration time.Duration
}

// Health returns what an attempt says of its target's health, with the response
// time that it counts with; timeout is the policy's AttemptTimeout. A failure has a
// response time only when the attempt ran into the whole timeout, for the response
// would have taken that long at least; a target that refuses is quick, and not because
// it is well.
func (r Reply) Health(timeout time.Duration) (health.Result, time.Duration) {
	switch {
	case !r.Failed:
		return health.Succeeded, r.Duration
	case !r.Failure.Unhealthy():
		return health.Unknown, health.NoResponse
	case r.Duration >= timeout:
		return health.Failed, r.Duration
	}
	return health.Failed, health.NoResponse
}

// Publisher brings operations to the streams from which workers take them.
type Publisher interface {
	// Publish stores op, with the headers of its work, at op.Work.Target. refused
	// says why that cannot be; nil is that it is stored, or that nobody knows.
	// timeout is how long the worker may be silent.
	Publish(ctx context.Context, op *events.Operation, m Message, timeout time.Duration) (refused *policy.Failure)
	// Subject is the target of a key that has none of its own.
	Subject(service, operation string) string
	// Token returns a text that nobody can guess.
	Token() string
}
