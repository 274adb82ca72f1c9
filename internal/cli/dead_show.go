package cli

import (
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/rebound-mq/rebound/events"
)

// hexHead is how much of a payload that is no text is shown.
const hexHead = 256

func (a *app) deadShow() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show all of a dead letter: attributes, attempts, payload",
		Args:  exactArgs(1),
	}
	output := outputVar(cmd)
	raw := cmd.Flags().Bool("raw", false, "write only the original payload, byte for byte")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := (events.DeadLetterFilter{IDs: args}).Check(); err != nil {
			return usageError{err}
		}
		return a.connected(cmd, func(s *session) error {
			letters, _, err := s.letters(cmd)
			if err != nil {
				return err
			}
			d, err := letters.Get(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			switch {
			case *raw:
				if d.Truncated > 0 {
					a.say("only %d of the original %d bytes were kept", len(d.Data), d.Truncated)
				}
				_, err = a.stdout.Write(d.Data)
				return err
			case output.value == asJSON:
				return writeJSON(a.stdout, d)
			}
			return writeLetter(a.stdout, d)
		})
	}
	return cmd
}

// writeLetter writes everything that is known of a dead letter.
func writeLetter(w io.Writer, d *events.DeadLetter) error {
	t := newTable(w)
	t.row("id", d.ID)
	t.row("service", d.Service)
	t.row("operation", d.Operation)
	t.row("reason", string(d.Reason))
	t.row("detail", d.Detail)
	t.row("died", d.DiedAt)
	t.row("submitted to", d.SubmittedTo)
	t.row("dead letter", fmt.Sprintf("sequence %d", d.Sequence))
	if d.State != nil {
		writeState(t, d.State)
	}
	if err := t.flush(); err != nil {
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

func writeState(t *table, op *events.Operation) {
	optional := func(name, value string) {
		if value != "" {
			t.row(name, value)
		}
	}
	t.row("event id", op.EventID)
	t.row("source", op.Source)
	optional("type", op.Type)
	optional("subject", op.Subject)
	optional("target", op.Target)
	optional("delivery", string(op.Delivery))
	t.row("priority", op.Priority.String())
	optional("account", op.Account)
	optional("campaign", op.Campaign)
	optional("trace", op.TraceParent)
	t.row("attempts", op.Attempt)
	t.row("replays", op.Replay)
	t.row("first failure", op.FirstFailure)
	t.row("submitted", op.Submitted)
	if !op.Deadline.IsZero() {
		t.row("deadline", op.Deadline)
	}
	if !op.RetryAfter.IsZero() {
		t.row("retry after", op.RetryAfter)
	}
	for _, name := range sortedKeys(op.Overrides) {
		t.row("override "+name, op.Overrides[name])
	}
}

func writeAttempts(w io.Writer, op *events.Operation) error {
	fmt.Fprintln(w, "\nattempts")
	t := newTable(w, "RUN", "ATTEMPT", "AT", "TOOK", "CODE", "CLASS", "RULE", "DELAY", "STRATEGY", "ERROR")
	for i, at := range op.History {
		if op.Omitted > 0 && i == len(op.History)-1 {
			t.row("", fmt.Sprintf("(%d left out)", op.Omitted))
		}
		number := fmt.Sprint(at.Number)
		if at.Repeated {
			number += " (repeated)"
		}
		took, delay := "-", "-"
		if at.DurationMs > 0 {
			took = short(at.DurationMs)
		}
		if at.DelayMs > 0 {
			delay = short(at.DelayMs)
		}
		t.row(at.Replay, number, at.At, took, at.Code, at.Class, at.Rule, delay, at.Strategy, at.Error)
	}
	return t.flush()
}

func writeHeaders(w io.Writer, h map[string][]string) error {
	if len(h) == 0 {
		return nil
	}
	fmt.Fprintln(w, "\nheaders")
	t := newTable(w)
	for _, name := range sortedKeys(h) {
		for _, value := range h[name] {
			t.row(printable(name), value)
		}
	}
	return t.flush()
}

func writePayload(w io.Writer, d *events.DeadLetter) error {
	kept := many(len(d.Data), "byte")
	if d.Truncated > 0 {
		kept = fmt.Sprintf("the first %d of %d bytes", len(d.Data), d.Truncated)
	}
	if _, err := fmt.Fprintf(w, "\npayload, %s\n", kept); err != nil || len(d.Data) == 0 {
		return err
	}
	if isText(d.Data) {
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

// isText reports whether a payload can be shown on a terminal as it is.
func isText(b []byte) bool {
	if !utf8.Valid(b) {
		return false
	}
	for _, r := range string(b) {
		if !unicode.IsPrint(r) && r != '\n' && r != '\t' && r != '\r' {
			return false
		}
	}
	return true
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
