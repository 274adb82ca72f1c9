package cli

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/deadletter"
)

const (
	// actAtOnce bounds the requests that are not acknowledged yet.
	actAtOnce = 512
	// actTimeout bounds how long one acknowledgement is waited for.
	actTimeout = 30 * time.Second
)

// action is something that is done to many dead letters.
type action struct {
	verb, past string
	// do reports false when the dead letter needed nothing any more.
	do func(context.Context, *session, *deadletter.Letters, *events.DeadLetter) (bool, error)
}

func (a *app) deadReplay() *cobra.Command {
	cmd := a.deadAction(action{verb: "replay", past: "replayed", do: replay})
	cmd.Short = "Submit dead letters again as fresh operations"
	cmd.Long = `Submits dead letters again as fresh operations, with their history kept.

A dead letter goes when a service has taken the operation in. While no service
runs, replays wait in the stream of submissions. Replaying the same dead letter
twice brings it back once, so after an interruption the same command goes on
with the rest.`
	cmd.Example = `  rebound dead replay 0123456789abcdef0123456789abcdef
  rebound dead replay --service billing --since 2h --dry-run
  rebound dead replay --reason exhausted --rate 500/s`
	return cmd
}

func (a *app) deadDiscard() *cobra.Command {
	cmd := a.deadAction(action{verb: "discard", past: "discarded", do: discard})
	cmd.Short = "Remove dead letters for good"
	cmd.Example = `  rebound dead discard --service billing --until 30d`
	return cmd
}

// replay asks for a dead letter to be replayed.
func replay(ctx context.Context, s *session, letters *deadletter.Letters, d *events.DeadLetter) (bool, error) {
	ack, err := s.js.PublishMsg(ctx, letters.ReplayMessage(d))
	if err != nil {
		return false, s.explain(fmt.Errorf("replaying dead letter %s: %w", d.ID, err))
	}
	return !ack.Duplicate, nil
}

func discard(ctx context.Context, _ *session, letters *deadletter.Letters, d *events.DeadLetter) (bool, error) {
	err := letters.Discard(ctx, d)
	if errors.Is(err, deadletter.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

func (a *app) deadAction(act action) *cobra.Command {
	cmd := &cobra.Command{Use: act.verb + " [ID...]", Args: anyArgs}
	selected := letterVars(cmd)
	var pace rateFlag
	cmd.Flags().Var(&pace, "rate", "no faster than this, such as 500/s or 30/m")
	dryRun := cmd.Flags().Bool("dry-run", false, "only count what would be "+act.past)
	yes := cmd.Flags().Bool("yes", false, "agree to act on every dead letter when nothing narrows them down")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		filter, err := selected.selection(args)
		if err != nil {
			return err
		}
		if filter.Everything() && !*yes && !*dryRun {
			return usagef("this would %s every dead letter; name ids or a filter, or say --yes", act.verb)
		}
		return a.connected(cmd, func(s *session) error {
			letters, total, err := s.letters(cmd)
			if err != nil {
				return err
			}
			run := &acting{app: a, session: s, letters: letters, action: act, filter: filter, found: make(map[string]bool)}
			if *dryRun {
				return run.count(cmd.Context())
			}
			return run.run(cmd.Context(), total, &pace)
		})
	}
	return cmd
}

// acting is an action under way.
type acting struct {
	*app
	*session
	letters *deadletter.Letters
	action  action
	filter  events.DeadLetterFilter

	// The listing goroutine's own.
	found    map[string]bool
	partial  int
	rejected int

	done, idle atomic.Int64
}

// selected lists the dead letters to act on without their payloads, which
// nothing needs any more.
func (r *acting) selected(ctx context.Context) iter.Seq2[*events.DeadLetter, error] {
	return func(yield func(*events.DeadLetter, error) bool) {
		for d, err := range r.letters.List(ctx, r.filter) {
			if err != nil {
				yield(nil, err)
				return
			}
			if len(r.filter.IDs) > 0 {
				r.found[d.ID] = true
			}
			if r.action.verb == "replay" {
				if d.Truncated > 0 {
					r.partial++
					continue
				}
				if d.Reason == events.ReasonRejected {
					r.rejected++
				}
			}
			d.Data, d.Header, d.State = nil, nil, nil
			if !yield(d, nil) {
				return
			}
		}
	}
}

func (r *acting) count(ctx context.Context) error {
	n := 0
	for _, err := range r.selected(ctx) {
		if err != nil {
			return err
		}
		n++
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	r.say("%s would be %s", many(n, "dead letter"), r.action.past)
	return r.remarks()
}

func (r *acting) run(ctx context.Context, total int, pace *rateFlag) error {
	bar := progress(r.stderr, r.total(total), r.action.verb)
	err := forEach(ctx, r.selected(ctx), actAtOnce, pace.limiter(), func(ctx context.Context, d *events.DeadLetter) error {
		ctx, cancel := context.WithTimeout(ctx, actTimeout)
		defer cancel()
		acted, err := r.action.do(ctx, r.session, r.letters, d)
		if err != nil {
			return err
		}
		if acted {
			r.done.Add(1)
		} else {
			r.idle.Add(1)
		}
		return bar.Add(1)
	})
	_ = bar.Finish()
	done := many(int(r.done.Load()), "dead letter")
	switch {
	case err != nil && ctx.Err() != nil:
		return fmt.Errorf("interrupted after %s %s; the same command goes on with the rest", done, verbWas(r.done.Load(), r.action.past))
	case err != nil:
		return fmt.Errorf("%w; after %s %s, the same command goes on with the rest", err, done, verbWas(r.done.Load(), r.action.past))
	}
	r.say("%s %s", done, r.action.past)
	return r.remarks()
}

// total is how many dead letters there are to act on, as far as it is known
// without reading them.
func (r *acting) total(all int) int {
	switch {
	case len(r.filter.IDs) > 0:
		return len(r.filter.IDs)
	case !r.filter.Everything():
		return unknownTotal
	case r.filter.Limit > 0:
		return min(r.filter.Limit, all)
	}
	return all
}

// remarks says what was not acted on. Ids that name nothing are an error.
func (r *acting) remarks() error {
	if n := r.idle.Load(); n > 0 {
		r.say("%s needed nothing: already %s or asked for", many(int(n), "dead letter"), r.action.past)
	}
	if r.partial > 0 {
		r.say("%s left alone, because only a part of the payload was kept", many(r.partial, "dead letter"))
	}
	if r.rejected > 0 {
		r.say("%s had been rejected at submission; what is rejected again stays a dead letter", many(r.rejected, "dead letter"))
	}
	var missing []string
	for _, id := range r.filter.IDs {
		if !r.found[id] {
			missing = append(missing, id)
		}
	}
	if len(missing) > 0 && r.filter.Limit == 0 {
		slices.Sort(missing)
		return fmt.Errorf("%w: %s", deadletter.ErrNotFound, joinSome(missing, 10))
	}
	return nil
}

func verbWas(n int64, past string) string {
	if n == 1 {
		return "was " + past
	}
	return "were " + past
}
