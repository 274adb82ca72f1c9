package cli

import (
	"context"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/cli/command"
	"github.com/rebound-mq/rebound/internal/cli/flags"
	"github.com/rebound-mq/rebound/internal/cli/terminal"
	"github.com/rebound-mq/rebound/internal/session"
	"github.com/rebound-mq/rebound/internal/wording"
	"github.com/rebound-mq/rebound/schemas"
)

const patternHelp = `
PATTERN is a key (billing:charge), a service (billing), or either with asterisks, each of
which stands for any number of characters (` + "`bill*:*`" + `). A lone asterisk is everything.`

// pauseOptions say what to pause.
type pauseOptions struct {
	*command.App
	add      schemas.PauseAdd
	duration flags.Duration
	yes      bool
	output   *flags.Output
}

func pauseCommand(a *command.App) *cobra.Command {
	o := pauseOptions{App: a}
	cmd := &cobra.Command{
		Use:   "pause [PATTERN]",
		Short: "Pause keys or services, or list what is paused",
		Long: `Pauses keys: nothing of them goes to its target, whatever else says so, until
` + "`rebound resume`" + ` or until the time is over. Attempts under way end as they do. All
instances heed it, also after a restart. Without PATTERN it lists what is paused.
` + patternHelp,
		Example: `  rebound pause billing --note "the database is being moved"
  rebound pause billing:charge --for 2h
  rebound pause 'bill*:*'
  rebound pause`,
		Args: command.AtMostOneArg, ValidArgsFunction: a.CompleteKeys(true),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return a.Connected(cmd, o.list)
			}
			if err := o.complete(args[0]); err != nil {
				return err
			}
			return a.Connected(cmd, o.run)
		},
	}
	o.output = flags.OutputVar(cmd)
	cmd.Flags().Var(&o.duration, "for", "end the pause by itself after this time")
	operatorVars(cmd, &o.add.By, &o.add.Note)
	command.YesVar(cmd, &o.yes)
	return cmd
}

// operatorVars adds the flags by which an operator tells who and why.
func operatorVars(cmd *cobra.Command, by, note *string) {
	cmd.Flags().StringVar(by, "as", command.Operator(), "who does it, for those who look")
	cmd.Flags().StringVar(note, "note", "", "why, for those who look; at most 500 bytes")
}

func (o *pauseOptions) complete(pattern string) error {
	if _, err := events.ParsePattern(pattern); err != nil {
		return command.Usage(err)
	}
	o.add.Pattern, o.add.ForMs = pattern, events.InMilliseconds(time.Duration(o.duration))
	return command.Usage(o.add.Check())
}

func (o *pauseOptions) run(ctx context.Context, s *session.Session) error {
	if !o.yes {
		if err := o.CheckSeen(ctx, s, o.add.Pattern); err != nil {
			return err
		}
	}
	var added schemas.PauseAdded
	if err := s.Ask(ctx, "pause", o.add, &added); err != nil {
		return err
	}
	if o.output.JSON() {
		return terminal.WriteJSON(o.Stdout, added)
	}
	until := "; `rebound resume` ends it"
	if !added.Until.IsZero() {
		until = " until " + wording.Moment(added.Until)
	}
	o.Say("%s is paused%s", added.Pattern, until)
	return nil
}

// list lists what is paused.
func (o *pauseOptions) list(ctx context.Context, s *session.Session) error {
	var list schemas.PauseList
	if err := s.Ask(ctx, "pause.list", nil, &list); err != nil {
		return err
	}
	if o.output.JSON() {
		return terminal.WriteJSONLines(o.Stdout, list.Pauses)
	}
	if err := writePauses(o.Stdout, list.Pauses); err != nil {
		return err
	}
	if len(list.Pauses) == 0 {
		o.Say("nothing is paused")
	}
	return nil
}

// writePauses writes a table of pauses; nothing when there are none.
func writePauses(w io.Writer, pauses []events.Pause) error {
	if len(pauses) == 0 {
		return nil
	}
	t := terminal.NewTable(w, "PAUSED", "SINCE", "UNTIL", "BY", "NOTE")
	for _, p := range pauses {
		t.Row(p.Pattern.String(), p.At, p.Until, p.By, p.Note)
	}
	return t.Flush()
}

// resumeOptions say what to resume.
type resumeOptions struct {
	*command.App
	end    schemas.PauseEnd
	output *flags.Output
}

func resumeCommand(a *command.App) *cobra.Command {
	o := resumeOptions{App: a}
	cmd := &cobra.Command{
		Use:   "resume PATTERN",
		Short: "End a pause",
		Long: `Ends the pause of a pattern. What was held goes on at once, at the pace that the other
limits allow. PATTERN is the one that was paused; ` + "`rebound pause`" + ` lists them.`,
		Example: `  rebound resume billing`,
		Args:    command.ExactArgs(1), ValidArgsFunction: a.Complete(paused),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := events.ParsePattern(args[0]); err != nil {
				return command.Usage(err)
			}
			o.end.Pattern = args[0]
			if err := events.CheckOperator(o.end.By, o.end.Note); err != nil {
				return command.Usage(err)
			}
			return a.Connected(cmd, o.run)
		},
	}
	o.output = flags.OutputVar(cmd)
	operatorVars(cmd, &o.end.By, &o.end.Note)
	return cmd
}

// paused finds the pauses whose pattern begins in a certain way.
func paused(ctx context.Context, s *session.Session, begun string) (names []string, err error) {
	var list schemas.PauseList
	err = s.Ask(ctx, "pause.list", nil, &list)
	for _, p := range list.Pauses {
		if name := p.Pattern.String(); strings.HasPrefix(name, begun) {
			names = append(names, name)
		}
	}
	return names, err
}

func (o *resumeOptions) run(ctx context.Context, s *session.Session) error {
	var ended schemas.PauseEnded
	if err := s.Ask(ctx, "resume", o.end, &ended); err != nil {
		return err
	}
	if o.output.JSON() {
		return terminal.WriteJSON(o.Stdout, ended)
	}
	o.Say("%s is resumed", ended.Ended.Pattern)
	for _, p := range ended.Paused {
		o.Warn("it is still held by the pause of %s", p.Pattern)
	}
	return nil
}
