package cli

import (
	"errors"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/deadletter"
)

func (a *app) deadCommand() *cobra.Command {
	cmd := group("dead", "List, show, replay and discard dead letters",
		"Works on the stream of dead letters itself, whether or not a service is running.")
	cmd.AddCommand(a.deadList(), a.deadShow(), a.deadReplay(), a.deadDiscard())
	return cmd
}

// letterFlags select dead letters by flags.
type letterFlags struct {
	filter       events.DeadLetterFilter
	reason       *wordFlag
	since, until whenFlag
}

func letterVars(cmd *cobra.Command) *letterFlags {
	f := new(letterFlags)
	reasons := make([]string, len(events.Reasons))
	for i, r := range events.Reasons {
		reasons[i] = string(r)
	}
	flags := cmd.Flags()
	flags.StringVar(&f.filter.Service, "service", "", "only of this service")
	flags.StringVar(&f.filter.Operation, "operation", "", "only of this operation type")
	f.reason = wordVar(cmd, "reason", "", "only those that ended for this reason", reasons...)
	flags.StringVar(&f.filter.ErrorCode, "error-code", "", "only those whose last failure has this code")
	flags.Var(&f.since, "since", "only those that died since then: how long ago (2h, 7d), or an RFC 3339 time")
	flags.Var(&f.until, "until", "only those that died before then: how long ago (2h, 7d), or an RFC 3339 time")
	flags.IntVar(&f.filter.Limit, "limit", 0, "no more than this many, 0 for no limit")
	return f
}

// selection returns the filter of the flags and of the ids that are named.
func (f *letterFlags) selection(ids []string) (events.DeadLetterFilter, error) {
	out := f.filter
	out.Reason = events.Reason(f.reason.value)
	out.Since, out.Until = f.since.at, f.until.at
	for _, id := range ids {
		if !slices.Contains(out.IDs, id) {
			out.IDs = append(out.IDs, id)
		}
	}
	if err := out.Check(); err != nil {
		return out, usageError{err}
	}
	return out, nil
}

// letters opens the dead letters and counts them.
func (s *session) letters(cmd *cobra.Command) (*deadletter.Letters, int, error) {
	name := s.streams.Dead()
	stream, err := s.js.Stream(cmd.Context(), name)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return nil, 0, s.missing(name)
	case err != nil:
		return nil, 0, fmt.Errorf("reading stream %s: %w", name, err)
	}
	return deadletter.New(s.js, s.config.Prefix), int(stream.CachedInfo().State.Msgs), nil
}
