package dead

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
	"github.com/rebound-mq/rebound/internal/cli/command"
	"github.com/rebound-mq/rebound/internal/cli/flags"
	"github.com/rebound-mq/rebound/internal/cli/terminal"
	"github.com/rebound-mq/rebound/internal/deadletter"
	"github.com/rebound-mq/rebound/internal/parallel"
	"github.com/rebound-mq/rebound/internal/session"
	"github.com/rebound-mq/rebound/internal/wording"
)

const (
	// actAtOnce is how many requests may await acknowledgement at once.
	actAtOnce = 512
	// actTimeout bounds the wait for one acknowledgement.
	actTimeout = 30 * time.Second
)

// action is something to do to many dead letters.
type action struct {
	verb, past string
	// do returns false if nothing was left to do.
	do func(context.Context, *session.Session, *deadletter.Letters, *events.DeadLetter) (bool, error)
}

// actOptions say what to do to which dead letters.
type actOptions struct {
	*command.App
	selection
	action      action
	pace        flags.Rate
	dryRun, yes bool
}

func replayCommand(a *command.App) *cobra.Command {
	o := &actOptions{App: a, action: action{verb: "replay", past: "replayed", do: replay}}
	cmd := o.command("Submit dead letters again as fresh operations")
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

func discardCommand(a *command.App) *cobra.Command {
	o := &actOptions{App: a, action: action{verb: "discard", past: "discarded", do: discard}}
	cmd := o.command("Remove dead letters for good")
	cmd.Example = `  rebound dead discard --service billing --until 30d`
	return cmd
}

func (o *actOptions) command(short string) *cobra.Command {
	cmd := &cobra.Command{
		Use: o.action.verb + " [ID...]", Short: short, Args: command.AnyArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.complete(args); err != nil {
				return err
			}
			return o.Connected(cmd, o.run)
		},
	}
	o.vars(cmd)
	f := cmd.Flags()
	f.Var(&o.pace, "rate", "no faster than this, such as 500/s or 30/m")
	f.BoolVar(&o.dryRun, "dry-run", false, "only count what would be "+o.action.past)
	f.BoolVar(&o.yes, "yes", false, "agree to act on every dead letter when nothing narrows them down")
	return cmd
}

func (o *actOptions) complete(ids []string) error {
	if err := o.selection.complete(ids); err != nil {
		return err
	}
	if o.filter.Everything() && !o.yes && !o.dryRun {
		return command.Usagef("this would %s every dead letter; name ids or a filter, or say --yes", o.action.verb)
	}
	return nil
}

func (o *actOptions) run(ctx context.Context, s *session.Session) error {
	letters, total, err := openLetters(ctx, s)
	if err != nil {
		return err
	}
	r := &acting{actOptions: o, session: s, letters: letters, found: make(map[string]bool)}
	if o.dryRun {
		return r.count(ctx)
	}
	return r.run(ctx, total)
}

// replay requests the replay of a dead letter.
func replay(ctx context.Context, s *session.Session, letters *deadletter.Letters, d *events.DeadLetter) (bool, error) {
	ack, err := s.JS.PublishMsg(ctx, letters.ReplayMessage(d))
	if err != nil {
		return false, s.Explain(fmt.Errorf("replaying dead letter %s: %w", d.ID, err))
	}
	return !ack.Duplicate, nil
}

func discard(ctx context.Context, _ *session.Session, letters *deadletter.Letters, d *events.DeadLetter) (bool, error) {
	err := letters.Discard(ctx, d)
	if errors.Is(err, deadletter.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// acting is an action under way.
type acting struct {
	*actOptions
	session *session.Session
	letters *deadletter.Letters

	// The listing goroutine's own.
	found    map[string]bool
	partial  int
	rejected int

	done, idle atomic.Int64
}

// selected lists the dead letters to act on, without their payloads.
func (r *acting) selected(ctx context.Context) iter.Seq2[*events.DeadLetter, error] {
	return func(yield func(*events.DeadLetter, error) bool) {
		for d, err := range r.letters.List(ctx, r.filter) {
			if err != nil {
				yield(nil, err)
				return
			}
			if !r.take(d) {
				continue
			}
			d.Data, d.Header, d.State = nil, nil, nil
			if !yield(d, nil) {
				return
			}
		}
	}
}

// take records that a dead letter was found and reports whether to act on it.
func (r *acting) take(d *events.DeadLetter) bool {
	if len(r.filter.IDs) > 0 {
		r.found[d.ID] = true
	}
	if r.action.verb != "replay" {
		return true
	}
	if d.Truncated > 0 {
		r.partial++
		return false
	}
	if d.Reason == events.ReasonRejected {
		r.rejected++
	}
	return true
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
	r.Say("%s would be %s", wording.Many(n, "dead letter"), r.action.past)
	return r.remarks()
}

func (r *acting) run(ctx context.Context, total int) error {
	bar := terminal.Progress(r.Stderr, r.total(total), r.action.verb)
	err := parallel.Each(ctx, r.selected(ctx), actAtOnce, r.pace.Limiter(), func(ctx context.Context, d *events.DeadLetter) error {
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
	done := wording.Many(int(r.done.Load()), "dead letter")
	switch {
	case err != nil && ctx.Err() != nil:
		return fmt.Errorf("interrupted after %s %s; the same command goes on with the rest", done, verbWas(r.done.Load(), r.action.past))
	case err != nil:
		return fmt.Errorf("%w; after %s %s, the same command goes on with the rest", err, done, verbWas(r.done.Load(), r.action.past))
	}
	r.Say("%s %s", done, r.action.past)
	return r.remarks()
}

// total returns how many dead letters there are to act on, as far as that is known
// without reading them.
func (r *acting) total(all int) int {
	switch {
	case len(r.filter.IDs) > 0:
		return len(r.filter.IDs)
	case !r.filter.Everything():
		return terminal.UnknownTotal
	case r.filter.Limit > 0:
		return min(r.filter.Limit, all)
	}
	return all
}

// remarks says what was not acted on. Ids that were not found are an error.
func (r *acting) remarks() error {
	if n := r.idle.Load(); n > 0 {
		r.Say("%s needed nothing: already %s or asked for", wording.Many(int(n), "dead letter"), r.action.past)
	}
	if r.partial > 0 {
		r.Say("%s left alone, because only a part of the payload was kept", wording.Many(r.partial, "dead letter"))
	}
	if r.rejected > 0 {
		r.Say("%s had been rejected at submission; what is rejected again stays a dead letter", wording.Many(r.rejected, "dead letter"))
	}
	var missing []string
	for _, id := range r.filter.IDs {
		if !r.found[id] {
			missing = append(missing, id)
		}
	}
	if len(missing) > 0 && r.filter.Limit == 0 {
		slices.Sort(missing)
		return fmt.Errorf("%w: %s", deadletter.ErrNotFound, wording.First(10, missing))
	}
	return nil
}

func verbWas(n int64, past string) string {
	if n == 1 {
		return "was " + past
	}
	return "were " + past
}
