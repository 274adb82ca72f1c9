package scheduler

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/backoff"
)

// claim is what is proved of a holder's claim on an operation.
type claim int

const (
	// doubt is that nothing is proved: the holder tries again, or goes on and marks
	// the attempt as a repeat.
	doubt claim = iota
	// holds is that the holder's version stands in the slot.
	holds
	// over is that the holder has nothing more to do.
	over
)

// judge says what the answers to a holder of a version of op prove. Its claim is over by
// positive proof alone: a newer version in the slot, or the end of the run. An
// empty slot and an older version are what a leader shows that was just elected, or
// a read that is behind, so they are doubts; and so is a newer version of an earlier
// run, which a server fires that has forgotten that it had.
func judge(op *events.Operation, version uint64, w Waiting, found, concluded bool) claim {
	switch {
	case concluded, found && w.Version > version && w.Op.Replay >= op.Replay:
		return over
	case found && w.Version == version:
		return holds
	}
	return doubt
}

// claim asks the store what is proved of a holder's claim.
func (p *Pipeline) claim(ctx context.Context, op *events.Operation, m Message) (claim, Waiting, error) {
	w, found, err := p.Store.Find(ctx, op)
	if err != nil {
		return doubt, w, err
	}
	if c := judge(op, m.Version, w, found, false); c == over {
		return c, w, nil
	}
	concluded, err := p.concluded(ctx, op)
	return judge(op, m.Version, w, found, concluded), w, err
}

// concluded reports whether the run of a contested operation is known to have ended.
func (p *Pipeline) concluded(ctx context.Context, op *events.Operation) (bool, error) {
	if p.Ends == nil || op.Contested.IsZero() {
		return false, nil
	}
	return p.Ends.Concluded(ctx, op, op.Contested)
}

// over reports whether the claim on an operation is over that another may have had
// as well. Of one that nobody else can have it asks nothing.
func (p *Pipeline) over(ctx context.Context, op *events.Operation, m Message) (bool, error) {
	if m.shared() {
		Share(op, m.Stored)
	}
	if op.Contested.IsZero() {
		return false, nil
	}
	c, _, err := p.claim(ctx, op, m)
	return c == over, err
}

// advance stores the next state of op in place of the holder's version. A refusal
// alone proves nothing: the claim is looked at, and in doubt it is tried again. What
// is nowhere at all, although its holder has it in hand, is stored anew.
func (p *Pipeline) advance(ctx context.Context, op *events.Operation, m Message, store func(context.Context, *events.Operation, Message) error) error {
	own := m
	for round := 0; ; round++ {
		err := store(ctx, op, m)
		if !errors.Is(err, ErrMoved) {
			return err
		}
		op.Contest(own.Stored)
		c, w, err := p.claim(ctx, op, own)
		if err != nil || c == over {
			return err
		}
		if m = own; c == doubt && round >= restoreRound {
			op.Fork(own.Stored)
			m.Version, m.Place = w.Version, w.Place
		}
		if err := p.pauseInDoubt(ctx, op, round); err != nil {
			return err
		}
	}
}

// NearFiring is how long before the time of a schedule what is stored in its place may
// meet it: in a cluster a compare-and-set does not see that the schedule fires while
// that is in process, so two may have the operation.
const NearFiring = time.Second

// Share notes that another holder may have this version of op as well, since a time at
// the latest, and have made any attempt up to the next one that is stored.
func Share(op *events.Operation, since time.Time) {
	op.Contest(since)
	op.Repeats = max(op.Repeats, op.Attempt+mostUnstored)
}

const (
	// shortestDoubt and longestDoubt bound the pauses between two looks at what is
	// in doubt, and doubtRounds is how often it is looked.
	shortestDoubt = 50 * time.Millisecond
	longestDoubt  = 2 * time.Second
	doubtRounds   = 8
	// restoreRound is from which round on an operation that is nowhere is stored
	// anew by its holder, who has it in hand.
	restoreRound = 4
)

// errDoubt says that it could not be proved what became of an operation. Whoever
// gets it lets the message come again.
var errDoubt = errors.New("it is in doubt who has the operation")

// pauseInDoubt waits before the next look. The error asks to let the message come
// again. The pauses double without jitter: they are those of one holder of one
// operation, whom nobody is in step with.
func (p *Pipeline) pauseInDoubt(ctx context.Context, op *events.Operation, round int) error {
	if round < doubtRounds && backoff.SleepUnless(ctx, min(shortestDoubt<<round, longestDoubt), p.Draining) {
		return nil
	}
	return fmt.Errorf("operation %s: %w", op.ID, errDoubt)
}
