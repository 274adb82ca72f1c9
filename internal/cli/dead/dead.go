// Package dead has the commands about dead letters: [Command].
package dead

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/cli/command"
	"github.com/rebound-mq/rebound/internal/cli/flags"
	"github.com/rebound-mq/rebound/internal/deadletter"
	"github.com/rebound-mq/rebound/internal/session"
)

// Command returns the command dead with its subcommands.
func Command(a *command.App) *cobra.Command {
	cmd := command.Group("dead", "List, show, replay and discard dead letters",
		"Works on the stream of dead letters itself, whether or not a service is running.")
	cmd.AddCommand(listCommand(a), showCommand(a), replayCommand(a), discardCommand(a))
	return cmd
}

// selection selects dead letters by flags and ids.
type selection struct {
	filter       events.DeadLetterFilter
	reason       *flags.Word
	since, until flags.When
}

func (s *selection) vars(cmd *cobra.Command) {
	reasons := make([]string, len(events.Reasons))
	for i, r := range events.Reasons {
		reasons[i] = string(r)
	}
	f := cmd.Flags()
	f.StringVar(&s.filter.Service, "service", "", "only of this service")
	f.StringVar(&s.filter.Operation, "operation", "", "only of this operation type")
	s.reason = flags.WordVar(cmd, "reason", "", "only those that ended for this reason", reasons...)
	f.StringVar(&s.filter.ErrorCode, "error-code", "", "only those whose last failure has this code")
	f.Var(&s.since, "since", "only those that died since then: how long ago (2h, 7d), or an RFC 3339 time")
	f.Var(&s.until, "until", "only those that died before then: how long ago (2h, 7d), or an RFC 3339 time")
	f.IntVar(&s.filter.Limit, "limit", 0, "no more than this many, 0 for no limit")
}

// complete adds the ids and checks the filter.
func (s *selection) complete(ids []string) error {
	s.filter.Reason = events.Reason(s.reason.Value)
	s.filter.Since, s.filter.Until = s.since.At, s.until.At
	for _, id := range ids {
		if !slices.Contains(s.filter.IDs, id) {
			s.filter.IDs = append(s.filter.IDs, id)
		}
	}
	return command.Usage(s.filter.Check())
}

// openLetters opens the dead letters and counts them.
func openLetters(ctx context.Context, s *session.Session) (*deadletter.Letters, int, error) {
	name := s.Streams.Dead()
	stream, err := s.JS.Stream(ctx, name)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return nil, 0, s.NoStream(name)
	case err != nil:
		return nil, 0, fmt.Errorf("reading stream %s: %w", name, err)
	}
	return deadletter.New(s.JS, s.Config.Prefix), int(stream.CachedInfo().State.Msgs), nil
}
