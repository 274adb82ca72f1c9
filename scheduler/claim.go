package scheduler

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/backoff"
)

// claim is what has been proved of a holder's claim on an operation.
type claim int

const (
	// doubt: nothing is proved. The holder tries again, or goes on and marks the
	// attempt as a repeat.
	doubt claim = iota
	// holds: the holder's version is in the slot.
	holds
	// over: the holder has nothing more to do.
	over
)

// judge says what the store's answers prove to a holder of a version of op. Only
// positive proof ends its claim: a newer version in the slot, or the end of the run. An
// empty slot or an older version may come from a newly elected leader or a stale read,
// so they leave doubt. So does a newer version of an earlier run: a server that forgot
// that it had fired a schedule fires it again.
func judge(op *events.Operation, version uint64, w Waiting, found, concluded bool) claim {
	switch {
	case concluded, found && w.Version > version && w.Op.Replay >= op.Replay:
		return over
	case found && w.Version == version:
		return holds
	}
	return doubt
}

// claim asks the store for proof about a holder's claim.
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

// over reports whether the claim on an operation is over. It asks the store only if
// another holder may have the operation as well.
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
// alone proves nothing: advance checks the claim and tries again in doubt. An
// operation that its holder has in hand and the store does not have is stored anew.
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

// NearFiring is how close to the time of a schedule a write in its place may collide
// with it: in a cluster a compare-and-set does not see a schedule that is just firing,
// so two holders may have the operation.
const NearFiring = time.Second

// Share records that, since the given time at the latest, another holder may have this
// version of op too and may have made any attempt up to the next stored one.
func Share(op *events.Operation, since time.Time) {
	op.Contest(since)
	op.Repeats = max(op.Repeats, op.Attempt+mostUnstored)
}

const (
	// shortestDoubt and longestDoubt bound the pauses between two checks of a claim
	// in doubt, and doubtRounds is the number of checks.
	shortestDoubt = 50 * time.Millisecond
	longestDoubt  = 2 * time.Second
	doubtRounds   = 8
	// restoreRound is the round from which on a holder stores its operation anew if
	// the store does not have it.
	restoreRound = 4
)

// errDoubt says that it could not be proved what became of an operation. The message
// must be redelivered.
var errDoubt = errors.New("it is in doubt who has the operation")

// pauseInDoubt waits before the next check. Its error means that the message must be
// redelivered. The pauses double without jitter, because no two holders are in step.
func (p *Pipeline) pauseInDoubt(ctx context.Context, op *events.Operation, round int) error {
	if round < doubtRounds && backoff.SleepUnless(ctx, min(shortestDoubt<<round, longestDoubt), p.Draining) {
		return nil
	}
	return fmt.Errorf("operation %s: %w", op.ID, errDoubt)
}
