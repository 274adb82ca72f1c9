package compare

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"time"
)

// Contender is a system that brings failed operations back.
type Contender struct {
	// Name is unique among the contenders; it is what a flag and the tables call it.
	Name string
	// Of is the name under which variants of one system stand, of which the best counts. Empty
	// means that the contender stands for itself.
	Of string
	// About tells readers of the figures what they compare.
	About About
	// Missing returns what this machine lacks to run the contender and how to install it, and
	// nothing when it can run. Nil means that it can run anywhere.
	Missing func() string
	// Start starts the contender's processes in an empty directory and returns once it can take
	// operations. Everything that it starts listens on the loopback only.
	Start func(ctx context.Context, dir string) (Instance, error)
}

// About tells what a contender does with one operation, in a phrase each.
type About struct {
	// Version is the version of the system and of what it stores operations in.
	Version string
	// Path is the way of one operation from its failure to its end.
	Path string
	// Settings are those that weigh on the figures.
	Settings string
	// Keeps is what it guarantees, and Lacks what Rebound guarantees beyond that.
	Keeps, Lacks string
}

// Instance is a contender that has been started. It is used by one goroutine.
type Instance interface {
	// Processes returns its processes, which must be the same until it is stopped.
	Processes() []Process
	// Mallocs returns how many objects its service has allocated so far, or [ErrUnknown].
	Mallocs(ctx context.Context) (uint64, error)
	// Run brings operations back as load says, and returns once the end of each is known.
	Run(ctx context.Context, load Load) (Result, error)
	// Park has n operations of size bytes wait for a day, and returns once they are stored.
	Park(ctx context.Context, n, size int) error
	// Stop ends its processes and waits for them. It may be called once, in any state.
	Stop() error
}

// ErrUnknown says that a contender has no such figure.
var ErrUnknown = errors.New("not known of this contender")

// Load is what a contender is to do: each operation fails once, comes back, succeeds, and its end is
// known. The failure is the one before the submission where a service hands over what has failed;
// where the system runs the work itself, the first execution fails.
type Load struct {
	// Operations is how many there are, and Size the bytes of each payload, at least
	// [PayloadSize].
	Operations, Size int
	// Delay is the time from the failure until the operation is to come back. 0 means the least
	// that the contender can do.
	Delay time.Duration
	// Spread is added to the delay, in even parts: from nothing to Spread.
	Spread time.Duration
	// Rate is how many are submitted a second. 0 means as many as are taken.
	Rate float64
}

// DelayOf returns the delay of operation i. The delays of neighbours lie far apart.
func (l Load) DelayOf(i int) time.Duration {
	const golden = 0.6180339887498949
	_, part := math.Modf(float64(i) * golden)
	return l.Delay + time.Duration(part*float64(l.Spread))
}

// Result is what a contender did with a load.
type Result struct {
	// Took is the time from the first submission until the last end was known.
	Took time.Duration
	// Late is how much later each operation came back than it was due: submitted plus delay, or
	// failed plus delay where the system runs the work itself. A negative one came early. It is needed
	// only for loads with a rate.
	Late []time.Duration
	// Repeats counts the executions beyond those that the load asks for.
	Repeats int
}

// PayloadSize is the least size of a payload that says what [Payload] says.
const PayloadSize = 16

// Payload returns the payload of operation i that is submitted now: it names the operation, and
// the time at which it is due.
func (l Load) Payload(i int, now time.Time) []byte {
	data := make([]byte, max(l.Size, PayloadSize))
	binary.LittleEndian.PutUint64(data, uint64(i))
	binary.LittleEndian.PutUint64(data[8:], uint64(now.Add(l.DelayOf(i)).UnixNano()))
	return data
}

// ReadPayload returns what a payload says. It is not ok if it is too short.
func ReadPayload(data []byte) (i int, due time.Time, ok bool) {
	if len(data) < PayloadSize {
		return 0, time.Time{}, false
	}
	return int(binary.LittleEndian.Uint64(data)), time.Unix(0, int64(binary.LittleEndian.Uint64(data[8:]))), true
}

// Submit calls submit for each operation of the load, in turn and at its rate.
func (l Load) Submit(ctx context.Context, submit func(i int, payload []byte, delay time.Duration) error) error {
	start := time.Now()
	pace := time.NewTicker(2 * time.Millisecond)
	defer pace.Stop()
	for i := range l.Operations {
		for l.Rate > 0 && float64(i) >= time.Since(start).Seconds()*l.Rate {
			select {
			case <-pace.C:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := submit(i, l.Payload(i, time.Now()), l.DelayOf(i)); err != nil {
			return err
		}
	}
	return nil
}
