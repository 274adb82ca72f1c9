package proof

import (
	"time"

	"github.com/rebound-mq/rebound/events"
)

// Record is what happened in one history. Times are those of this machine's clock,
// which is the NATS servers' as well.
type Record struct {
	Kind string
	Seed uint64
	// Calm tells that nothing but the target's own answers went wrong.
	Calm bool
	// Skewed tells that the instances' clocks are not this machine's, so that what they
	// tell of times is not to be compared.
	Skewed bool
	// Limits are what the policies promise, by key.
	Limits map[string]Limits

	Submissions []Submission
	Attempts    []Attempt
	Outcomes    []Told[events.Outcome]
	Scheduled   []Told[events.Scheduled]
	Breakers    []Told[events.BreakerChange]
	Dead        []DeadLetter
	Waiting     []Waiting
	Replays     []Replay
	Faults      []Fault

	// Drained is whether nothing waited any more within Bound of the last fault.
	Drained bool
	Bound   time.Duration
	// Instances are the processes that lived at the end.
	Instances []Instance
	// Series are the figures of a soak.
	Series []Series
	// Exits are processes that ended without being told to.
	Exits []Fault
}

// Limits are what the policy of a key promises. Zero is no limit.
type Limits struct {
	MaxAttempts int
	// Concurrent bounds the operations in flight at once, Probes those while the
	// breaker is half-open, and Budget the attempts in any minute.
	Concurrent, Probes, Budget int
	// Timeout is how long an attempt may take. What takes longer is in flight no
	// more as far as the limits go.
	Timeout time.Duration
	// Breaker is whether the key has one, so that what is parked may come early when
	// it closes.
	Breaker bool
}

// Submission is one operation of a producer.
type Submission struct {
	ID, EventID, Key string
	Payload          string
	At               time.Time
	// Stored is when the submission was acknowledged, zero when it never was.
	Stored time.Time
	// Doomed operations fail at the target whenever they are tried.
	Doomed bool
	// MaxAttempts is the operation's own, 0 for the policy's.
	MaxAttempts int
}

// Attempt is one arrival of an operation at the target.
type Attempt struct {
	ID, Key  string
	Number   int
	Replay   int
	Repeated bool
	// Token is that of a worker's attempt. The stream of work may deliver one and the
	// same attempt more than once.
	Token   string
	Payload string
	At, End time.Time
	// Code is what the target answered, empty for success. Silent tells that it did not
	// answer at all.
	Code   string
	Silent bool
}

// Succeeded reports whether the target took the operation.
func (a *Attempt) Succeeded() bool { return a.Code == "" && !a.Silent }

// Told is an event of the stream of outcomes.
type Told[T any] struct {
	Event    T
	Sequence uint64
	// At is when the server stored it.
	At time.Time
}

// DeadLetter is what the stream of dead letters holds.
type DeadLetter struct {
	ID, Payload string
	Replay      int
	Reason      events.Reason
	Sequence    uint64
	At          time.Time
	// Problem says why it cannot be read.
	Problem string
}

// Waiting is an operation that had not ended when the history did.
type Waiting struct {
	ID      string
	Replay  int
	Subject string
	Since   time.Time
	Due     time.Time
}

// Replay is a dead letter that the operator replayed, with the run that it ended.
type Replay struct {
	ID  string
	Run int
	At  time.Time
}

// Fault is something that was done to the history, or happened to it.
type Fault struct {
	At   time.Time
	What string
}

// GoesOn ends the fault that says of an instance that it no longer stands still.
const GoesOn = "goes on"

// Instance is a process of Rebound, measured early in the history and at its end.
type Instance struct {
	Name                      string
	Goroutines, GoroutinesEnd int
	Resident, ResidentEnd     int64 // bytes
	StartedAfterFaults        bool
}
