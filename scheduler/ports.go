package scheduler

import (
	"context"
	"errors"
	"time"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/health"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

// Store is where operations wait and end. Every method is idempotent, returns only
// when its write is acknowledged, and retries what passes by itself until ctx ends. If
// the effect of a try is not known, the state that a later one stores is contested
// since m.Stored.
type Store interface {
	// Place stores op as waiting until op.Due in place of version m.Version; 0 means
	// that nothing is there. It returns [ErrMoved] if another version is there, and
	// [ErrTaken] if the submission m.Name was stored before.
	Place(ctx context.Context, op *events.Operation, m Message) error
	// Schedule is [Store.Place] and, once that has stored op, [Store.Scheduled], but waits for
	// both at once.
	Schedule(ctx context.Context, op *events.Operation, m Message, event events.Scheduled) error
	// Hold stores op in its lane in place of version m.Version, until the gate of its
	// key opens or, unless it is zero, the time until has come. It returns [ErrMoved] if
	// another version is there.
	Hold(ctx context.Context, op *events.Operation, m Message, until time.Time) error
	// Watch stores op, which goes to a worker, as waiting until op.Due in place of
	// version m.Version, and returns m as the holder of the stored version. It returns
	// [ErrMoved] if another version is there.
	Watch(ctx context.Context, op *events.Operation, m Message) (Message, error)
	// Find returns the waiting operation; ok is false if none is seen, which proves
	// nothing. It returns [ErrForeign] if something else is there.
	Find(ctx context.Context, op *events.Operation) (w Waiting, ok bool, err error)
	// Remove removes the waiting version, or returns [ErrMoved].
	Remove(ctx context.Context, op *events.Operation, version uint64) error
	// Bury keeps the operation as a dead letter.
	Bury(ctx context.Context, op *events.Operation, m Message, reason events.Reason, detail string) error
	// Ended publishes the outcome of an operation. It returns [ErrShared] if that took
	// so long that another holder, or an earlier try, may have published it.
	Ended(ctx context.Context, op *events.Operation, m Message, outcome events.Outcome) error
	// Scheduled publishes a decision.
	Scheduled(ctx context.Context, op *events.Operation, event events.Scheduled) error
}

// Message is an operation's submission as received. The pipeline passes it on to the
// store and the target.
type Message struct {
	// Subject is where it was submitted, empty once the operation waits.
	Subject string
	// Name identifies the submission for ever, empty once the operation waits. A
	// store recognises by it a submission that it has taken in before.
	Name   string
	Header map[string][]string
	Data   []byte
	// Version is the stored version that this holder got, 0 if the operation is not
	// in the store yet.
	Version uint64
	// Place is where in the store that version is; only the store reads it.
	Place string
	// Stored is when that version, or the submission, was stored.
	Stored time.Time
	// Shared reports whether another holder may have the same version or submission
	// too; nil means never.
	Shared func() bool
	// Later puts off storing the operation in its lane, which can wait: the pipeline returns
	// its error, and the caller then calls do, whose error stands for the pipeline's. Nil
	// means that nothing is put off.
	Later func(do func(context.Context) error) error
}

func (m Message) shared() bool { return m.Shared != nil && m.Shared() }

// Waiting is what the store has of an operation that is parked, held or due.
type Waiting struct {
	// Version, Place and Stored are as in [Message].
	Version uint64
	Place   string
	Stored  time.Time
	// InFlight is whether it is due, so that an instance has it or will get it, or a
	// worker has it.
	InFlight bool
	// Op is the stored state, and Header and Data are what was submitted.
	Op     *events.Operation
	Header map[string][]string
	Data   []byte
}

// ErrMoved says that the store refused a write because the operation's slot does not
// hold the expected version. It does not say which one is there, so it proves nothing;
// see [Pipeline].
var ErrMoved = errors.New("another version of the operation is stored")

// ErrTaken says that a submission was taken in before, whatever became of its
// operation.
var ErrTaken = errors.New("the submission was taken in before")

// ErrShared says that another holder may have got the operation during a write.
var ErrShared = errors.New("another may have the operation as well by now")

// ErrForeign says that the message in an operation's place is not an operation:
// somebody else published it there.
var ErrForeign = errors.New("what stands in its place is no operation")

// Ends knows how runs of operations ended.
type Ends interface {
	// Concluded reports whether the run of op has ended since a time: its outcome is
	// stored, or its dead letter, for which Concluded then publishes the outcome.
	// False proves nothing. It is safe for concurrent use.
	Concluded(ctx context.Context, op *events.Operation, since time.Time) (bool, error)
}

// Target is where attempts are delivered.
type Target interface {
	// Deliver makes one attempt. An error means that its result is not known, for a
	// reason that has nothing to do with the target.
	Deliver(ctx context.Context, op *events.Operation, m Message, a Attempt) (Reply, error)
}

// Attempt says where and how one attempt is made.
type Attempt struct {
	// Subject is where the operation goes.
	Subject string
	// Number counts the attempts, from 2: attempt 1 is the one that failed before the
	// operation was submitted.
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
	// Absent is whether nobody listens on the target, so that nobody was reached. It
	// comes with Failed.
	Absent bool
	// Duration is how long the attempt took, of which Own may be this instance's delay; see
	// [GatesConfig.OwnDelay].
	Duration, Own time.Duration
}

// Health returns what an attempt says of its target's health, and its response time;
// timeout is the policy's AttemptTimeout. A failure has a response time only if the
// attempt ran into the timeout, because the response would have taken at least that
// long; a quick refusal says nothing of how fast a healthy target is.
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

// Text returns what a failure says, empty for a success.
func (r *Reply) Text() string {
	switch {
	case !r.Failed:
		return ""
	case r.Failure.Code == "" || r.Failure.Message == "":
		return r.Failure.Code + r.Failure.Message
	}
	return r.Failure.Code + ": " + r.Failure.Message
}

// Publisher publishes operations to the streams of workers.
type Publisher interface {
	// Captured reports whether a stream captures subject, as far as is known. It makes
	// the stream of the default targets if it is missing.
	Captured(ctx context.Context, subject string) bool
	// Publish stores op, with the headers of its work, at op.Work.Target. refused
	// says why that is impossible, with [CodeNoStream] if no stream captures the target;
	// nil means that op is stored, or that this is not known. timeout is how long the
	// worker may be silent.
	Publish(ctx context.Context, op *events.Operation, m Message, timeout time.Duration) (refused *policy.Failure)
	// Subject returns the target of a key whose policy names none.
	Subject(service, operation string) string
	// Token returns a text that cannot be guessed.
	Token() string
}

// CodeNoStream is the code of an attempt whose target no stream captures.
const CodeNoStream = "no_stream"

// NoStream is the failure of an attempt at a target that no stream captures.
func NoStream(subject string) policy.Failure {
	return policy.Failure{Code: CodeNoStream, Message: "no stream captures " + subject}
}
