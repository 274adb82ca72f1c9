package proof

import (
	"time"

	"github.com/rebound-mq/rebound/events"
)

// Record is what happened in a history. Times are on this machine's clock, which the NATS servers
// share.
type Record struct {
	Kind string
	Seed uint64
	// Calm reports that nothing went wrong but the target's own answers.
	Calm bool
	// Skewed reports that the instances' clocks differ from this machine's, so that their times
	// cannot be compared.
	Skewed bool
	// Limits are the policies' promises, by key.
	Limits map[string]Limits

	Submissions []Submission
	Attempts    []Attempt
	Outcomes    []Published[events.Outcome]
	Scheduled   []Published[events.Scheduled]
	Breakers    []Published[events.BreakerChange]
	Dead        []DeadLetter
	Waiting     []Waiting
	Replays     []Replay
	Pauses      []Pause
	Faults      []Fault

	// Drained reports whether everything ended within Bound of the last fault.
	Drained bool
	Bound   time.Duration
	// Instances are the processes alive at the end.
	Instances []Instance
	// Series are the figures of a soak.
	Series []Series
	// Exits are processes that exited by themselves.
	Exits []Fault
}

// Limits are the promises of a key's policy. Zero is no limit.
type Limits struct {
	MaxAttempts int
	// Concurrent bounds the operations in flight, Probes those in flight while the breaker is
	// half-open, and Budget the attempts in any minute.
	Concurrent, Probes, Budget int
	// Timeout is how long an attempt may take. After that it no longer counts as in flight.
	Timeout time.Duration
	// Breaker reports whether the key has a breaker, so that parked operations may come early
	// when it closes.
	Breaker bool
	// Reached reports that every attempt that counts has reached the target or timed out, because
	// the target is sometimes absent and does nothing else than it should.
	Reached bool
}

// Submission is one operation of a producer.
type Submission struct {
	ID, EventID, Key string
	Payload          string
	At               time.Time
	// Stored is when the submission was acknowledged, zero if never.
	Stored time.Time
	// Doomed operations fail at the target at every attempt.
	Doomed bool
	// MaxAttempts is the operation's own limit, 0 for the policy's.
	MaxAttempts int
}

// Attempt is one arrival of an operation at the target.
type Attempt struct {
	ID, Key  string
	Number   int
	Replay   int
	Repeated bool
	// Token is the token of a worker's attempt. The work stream may deliver the same attempt more
	// than once.
	Token   string
	Payload string
	At, End time.Time
	// Code is the target's answer, empty for success. Silent reports that it did not answer.
	Code   string
	Silent bool
}

// Succeeded reports whether the target accepted the operation.
func (a *Attempt) Succeeded() bool { return a.Code == "" && !a.Silent }

// Published is an event in the stream of outcomes.
type Published[T any] struct {
	Event    T
	Sequence uint64
	// At is when the server stored it.
	At time.Time
}

// DeadLetter is a message of the stream of dead letters.
type DeadLetter struct {
	ID, Payload string
	Replay      int
	Reason      events.Reason
	Sequence    uint64
	At          time.Time
	// Problem is why it cannot be read.
	Problem string
}

// Waiting is an operation that had not ended at the end of the history.
type Waiting struct {
	ID      string
	Replay  int
	Subject string
	Since   time.Time
	Due     time.Time
}

// Replay is a dead letter that the operator replayed. Run is the run that it ended.
type Replay struct {
	ID  string
	Run int
	At  time.Time
}

// Pause is a time in which keys were paused for certain.
type Pause struct {
	Pattern  events.Pattern
	From, To time.Time
}

// Fault is something that was done to the history or happened in it.
type Fault struct {
	At   time.Time
	What string
}

// GoesOn ends the text of the fault that an instance is no longer frozen.
const GoesOn = "goes on"

// Instance is a process of Rebound, measured early and at the end.
type Instance struct {
	Name                      string
	Goroutines, GoroutinesEnd int
	Resident, ResidentEnd     int64 // bytes
	StartedAfterFaults        bool
}
