package dead

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/cli/command"
	"github.com/rebound-mq/rebound/internal/cli/flags"
	"github.com/rebound-mq/rebound/internal/cli/terminal"
	"github.com/rebound-mq/rebound/internal/session"
	"github.com/rebound-mq/rebound/internal/wording"
)

// hexHead is how many bytes of a payload are shown that is not text.
const hexHead = 256

type showOptions struct {
	*command.App
	id     string
	raw    bool
	output *flags.Output
}

func showCommand(a *command.App) *cobra.Command {
	o := showOptions{App: a}
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show all of a dead letter: attributes, attempts, payload",
		Args:  command.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.id = args[0]
			if err := (events.DeadLetterFilter{IDs: args}).Check(); err != nil {
				return command.Usage(err)
			}
			return a.Connected(cmd, o.run)
		},
	}
	o.output = flags.OutputVar(cmd)
	cmd.Flags().BoolVar(&o.raw, "raw", false, "write only the original payload, byte for byte")
	return cmd
}

func (o *showOptions) run(ctx context.Context, s *session.Session) error {
	letters, _, err := openLetters(ctx, s)
	if err != nil {
		return err
	}
	d, err := letters.Get(ctx, o.id)
	if err != nil {
		return err
	}
	switch {
	case o.raw:
		if d.Truncated > 0 {
			o.Say("only %d of the original %d bytes were kept", len(d.Data), d.Truncated)
		}
		_, err = o.Stdout.Write(d.Data)
		return err
	case o.output.JSON():
		return terminal.WriteJSON(o.Stdout, d)
	}
	return writeLetter(o.Stdout, d)
}

// writeLetter writes everything that is known of a dead letter.
func writeLetter(w io.Writer, d *events.DeadLetter) error {
	t := terminal.NewTable(w)
	t.Row("id", d.ID)
	t.Row("service", d.Service)
	t.Row("operation", d.Operation)
	t.Row("reason", string(d.Reason))
	t.Row("detail", d.Detail)
	t.Row("died", d.DiedAt)
	t.Row("submitted to", d.SubmittedTo)
	t.Row("dead letter", fmt.Sprintf("sequence %d", d.Sequence))
	if d.State != nil {
		writeState(t, d.State)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if d.State != nil {
		if err := writeAttempts(w, d.State); err != nil {
			return err
		}
	}
	if err := writeHeaders(w, d.Header); err != nil {
		return err
	}
	return writePayload(w, d)
}

func writeState(t *terminal.Table, op *events.Operation) {
	optional := func(name, value string) {
		if value != "" {
			t.Row(name, value)
		}
	}
	t.Row("event id", op.EventID)
	t.Row("source", op.Source)
	optional("type", op.Type)
	optional("subject", op.Subject)
	optional("target", op.Target)
	optional("delivery", string(op.Delivery))
	t.Row("priority", op.Priority.String())
	optional("account", op.Account)
	optional("campaign", op.Campaign)
	optional("trace", op.TraceParent)
	t.Row("attempts", op.Attempt)
	t.Row("replays", op.Replay)
	t.Row("first failure", op.FirstFailure)
	t.Row("submitted", op.Submitted)
	if !op.Deadline.IsZero() {
		t.Row("deadline", op.Deadline)
	}
	if !op.RetryAfter.IsZero() {
		t.Row("retry after", op.RetryAfter)
	}
	for _, name := range slices.Sorted(maps.Keys(op.Overrides)) {
		t.Row("override "+name, op.Overrides[name])
	}
}

func writeAttempts(w io.Writer, op *events.Operation) error {
	fmt.Fprintln(w, "\nattempts")
	t := terminal.NewTable(w, "RUN", "ATTEMPT", "AT", "TOOK", "CODE", "CLASS", "RULE", "DELAY", "STRATEGY", "ERROR")
	for i, at := range op.History {
		if op.Omitted > 0 && i == len(op.History)-1 {
			t.Row("", fmt.Sprintf("(%d left out)", op.Omitted))
		}
		number := fmt.Sprint(at.Number)
		if at.Repeated {
			number += " (repeated)"
		}
		took, delay := "-", "-"
		if at.DurationMs > 0 {
			took = wording.Short(at.DurationMs)
		}
		if at.DelayMs > 0 {
			delay = wording.Short(at.DelayMs)
		}
		t.Row(at.Replay, number, at.At, took, at.Code, at.Class, at.Rule, delay, at.Strategy, at.Error)
	}
	return t.Flush()
}

func writeHeaders(w io.Writer, h map[string][]string) error {
	if len(h) == 0 {
		return nil
	}
	fmt.Fprintln(w, "\nheaders")
	t := terminal.NewTable(w)
	for _, name := range slices.Sorted(maps.Keys(h)) {
		for _, value := range h[name] {
			t.Row(terminal.Printable(name), value)
		}
	}
	return t.Flush()
}

func writePayload(w io.Writer, d *events.DeadLetter) error {
	kept := wording.Many(len(d.Data), "byte")
	if d.Truncated > 0 {
		kept = fmt.Sprintf("the first %d of %d bytes", len(d.Data), d.Truncated)
	}
	if _, err := fmt.Fprintf(w, "\npayload, %s\n", kept); err != nil || len(d.Data) == 0 {
		return err
	}
	if terminal.IsText(d.Data) {
		_, err := fmt.Fprintln(w, strings.TrimSuffix(string(d.Data), "\n"))
		return err
	}
	head := d.Data[:min(len(d.Data), hexHead)]
	if _, err := io.WriteString(w, hex.Dump(head)); err != nil {
		return err
	}
	if len(head) < len(d.Data) {
		_, err := fmt.Fprintf(w, "… %d more bytes; --raw writes them all\n", len(d.Data)-len(head))
		return err
	}
	return nil
}
