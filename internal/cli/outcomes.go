package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/cli/command"
	"github.com/rebound-mq/rebound/internal/cli/flags"
	"github.com/rebound-mq/rebound/internal/cli/terminal"
	"github.com/rebound-mq/rebound/internal/session"
	"github.com/rebound-mq/rebound/internal/wording"
)

// outcomesOptions say which outcomes to print, and how many.
type outcomesOptions struct {
	*command.App
	since              flags.When
	service, operation flags.Name
	only               *flags.Word
	events, noFollow   bool
	count              int
	output             *flags.Output
}

func outcomesCommand(a *command.App) *cobra.Command {
	o := outcomesOptions{App: a}
	cmd := &cobra.Command{
		Use:   "outcomes",
		Short: "Follow how operations end",
		Example: `  rebound outcomes --since 10m
  rebound outcomes --service billing --only failed --output json
  rebound outcomes --no-follow --since 7d --output json | jq -r 'select(.reason=="exhausted").id'`,
		Args: command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.count < 0 {
				return command.Usagef("--count %d is negative", o.count)
			}
			return a.Connected(cmd, o.run)
		},
	}
	f := cmd.Flags()
	f.Var(&o.since, "since", "begin then: how long ago (10m, 7d), or an RFC 3339 time; without it with what comes, or with --no-follow at the beginning")
	f.Var(&o.service, "service", "only of this service")
	f.Var(&o.operation, "operation", "only of this operation type")
	o.only = flags.WordVar(cmd, "only", "", "only this outcome", "success", "failed")
	f.BoolVar(&o.events, "events", false, "also each decision and what else happens (retryScheduled, …)")
	f.IntVar(&o.count, "count", 0, "end after this many, 0 for no end")
	f.BoolVar(&o.noFollow, "no-follow", false, "end after what is stored by now")
	o.output = flags.OutputVar(cmd)
	return cmd
}

func (o *outcomesOptions) run(ctx context.Context, s *session.Session) error {
	print := outcomePrinter(o.App, o.output.JSON())
	n := 0
	for e, err := range follow(ctx, s, o.query()) {
		if err != nil && ctx.Err() != nil {
			return nil // interrupted before the first event
		}
		if err != nil {
			return err
		}
		if err := print(e); err != nil {
			return err
		}
		if n++; n == o.count {
			return nil
		}
	}
	return nil
}

func (o *outcomesOptions) query() outcomeQuery {
	return outcomeQuery{
		service: string(o.service), operation: string(o.operation),
		name:   map[string]string{"success": events.RetrySuccess, "failed": events.RetryFailed}[o.only.Value],
		events: o.events, since: o.since.At, onlyStored: o.noFollow,
	}
}

// storedEvent is one outcome or other event as stored.
type storedEvent struct {
	subject  string
	at       time.Time
	data     []byte
	sequence uint64
	// pending is how many more are stored.
	pending uint64
}

// outcomeQuery says which outcomes to read.
type outcomeQuery struct {
	service, operation string
	// name is one outcome, empty for both.
	name string
	// events adds the events that are not outcomes.
	events bool
	since  time.Time
	// onlyStored ends after what is stored already.
	onlyStored bool
}

// follow reads the events that q asks for until ctx ends, which is not an error, or
// until the end of what is stored already.
func follow(ctx context.Context, s *session.Session, q outcomeQuery) iter.Seq2[storedEvent, error] {
	return func(yield func(storedEvent, error) bool) {
		f, err := startFollowing(ctx, s, q)
		if err != nil {
			yield(storedEvent{}, err)
			return
		}
		if f == nil {
			return
		}
		defer f.messages.Stop()
		for {
			e, err := f.next(ctx)
			switch {
			case errors.Is(err, errNoMore):
				return
			case err != nil:
				yield(storedEvent{}, err)
				return
			}
			if !yield(e, nil) || f.isLast(e) {
				return
			}
		}
	}
}

// following reads events one after the other.
type following struct {
	consumer jetstream.Consumer
	messages jetstream.MessagesContext
	// onlyStored stops at the sequence end.
	onlyStored bool
	end        uint64
}

// startFollowing returns nil if q asks only for what is stored and nothing is.
func startFollowing(ctx context.Context, s *session.Session, q outcomeQuery) (*following, error) {
	end, err := lastSequence(ctx, s, s.Streams.Outcomes())
	if err != nil {
		return nil, err
	}
	f := &following{onlyStored: q.onlyStored, end: end}
	f.consumer, err = s.JS.OrderedConsumer(ctx, s.Streams.Outcomes(), q.consumer(s.Subjects))
	if err != nil {
		return nil, fmt.Errorf("following the outcomes: %w", err)
	}
	if q.onlyStored && f.consumer.CachedInfo().NumPending == 0 {
		return nil, nil
	}
	if f.messages, err = f.consumer.Messages(); err != nil {
		return nil, fmt.Errorf("following the outcomes: %w", err)
	}
	return f, nil
}

// errNoMore says that no more events come or are waited for.
var errNoMore = errors.New("no more events")

// next waits for the next event.
func (f *following) next(ctx context.Context) (storedEvent, error) {
	for {
		e, err := next(ctx, f.messages)
		switch {
		case ctx.Err() != nil:
			return e, errNoMore
		case errors.Is(err, context.DeadlineExceeded):
			if f.isDrained(ctx) {
				return e, errNoMore
			}
		case err != nil:
			return e, fmt.Errorf("following the outcomes: %w", err)
		case f.onlyStored && e.sequence > f.end:
			return e, errNoMore
		default:
			return e, nil
		}
	}
}

// isDrained reports whether the events still to come were removed meanwhile.
func (f *following) isDrained(ctx context.Context) bool {
	if !f.onlyStored {
		return false
	}
	info, err := f.consumer.Info(ctx)
	return err == nil && info.NumPending == 0
}

func (f *following) isLast(e storedEvent) bool {
	return f.onlyStored && (e.sequence == f.end || e.pending == 0)
}

// quiet is how long to wait for an event before the stream's state is requested.
const quiet = 5 * time.Second

func next(ctx context.Context, messages jetstream.MessagesContext) (storedEvent, error) {
	ctx, cancel := context.WithTimeout(ctx, quiet)
	defer cancel()
	m, err := messages.Next(jetstream.NextContext(ctx))
	if err != nil {
		return storedEvent{}, err
	}
	meta, err := m.Metadata()
	if err != nil {
		return storedEvent{}, err
	}
	return storedEvent{
		subject: m.Subject(), at: meta.Timestamp, data: m.Data(),
		sequence: meta.Sequence.Stream, pending: meta.NumPending,
	}, nil
}

// consumer returns the configuration of a consumer of what q asks for.
func (q outcomeQuery) consumer(subjects events.Subjects) jetstream.OrderedConsumerConfig {
	c := jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{subjects.Outcomes(q.name, q.service, q.operation)},
		DeliverPolicy:  jetstream.DeliverNewPolicy,
	}
	if q.events {
		c.FilterSubjects = append(c.FilterSubjects, subjects.Events("", q.service, q.operation))
	}
	switch {
	case !q.since.IsZero():
		c.DeliverPolicy, c.OptStartTime = jetstream.DeliverByStartTimePolicy, &q.since
	case q.onlyStored:
		c.DeliverPolicy = jetstream.DeliverAllPolicy
	}
	return c
}

// lastSequence returns the sequence of the last message of a stream.
func lastSequence(ctx context.Context, s *session.Session, name string) (uint64, error) {
	stream, err := s.JS.Stream(ctx, name)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return 0, s.NoStream(name)
	case err != nil:
		return 0, fmt.Errorf("reading stream %s: %w", name, err)
	}
	return stream.CachedInfo().State.LastSeq, nil
}

// outcomePrinter returns a function that prints one outcome or event.
func outcomePrinter(a *command.App, json bool) func(storedEvent) error {
	if json {
		return func(e storedEvent) error { return printEvent(a, e) }
	}
	headed := false
	return func(t storedEvent) error {
		if !headed {
			headed = true
			if _, err := fmt.Fprintf(a.Stdout, outcomeLayout+"\n", "AT", "EVENT", "SERVICE:OPERATION", "ID", "ATTEMPT", "DETAIL"); err != nil {
				return err
			}
		}
		return printRow(a, t)
	}
}

// outcomeLayout has fixed columns, so that each row can be printed at once.
const outcomeLayout = "%-12s  %-19s  %-34s  %-32s  %-7v  %s"

// anyEvent has the printed fields of outcomes and decisions.
type anyEvent struct {
	events.Outcome
	Pattern events.Pattern `json:"pattern"` // of a pause
	Attempt int            `json:"attempt"`
	DelayMs float64        `json:"delayMs"`
	Due     *time.Time     `json:"due"`
}

func printRow(a *command.App, t storedEvent) error {
	name := eventName(t.subject)
	var e anyEvent
	if err := json.Unmarshal(t.data, &e); err != nil {
		a.Say("the message on %s is no event: %v", t.subject, err)
		return nil
	}
	_, err := fmt.Fprintf(a.Stdout, outcomeLayout+"\n", t.at.Local().Format("15:04:05.000"), name,
		terminal.Printable(cmp.Or(e.Pattern.String(), keyOf(t.subject))), terminal.Printable(e.ID), cmp.Or(e.Attempts, e.Attempt), terminal.Printable(detail(name, e, t.data)))
	return err
}

// keyOf returns the key in the subject of an event.
func keyOf(subject string) string {
	tokens := strings.Split(subject, ".")
	return strings.Join(tokens[max(len(tokens)-2, 0):], ":")
}

// detail says in a few words what matters about an event, which is also given as it is stored.
func detail(name string, e anyEvent, data []byte) string {
	failure := ""
	if e.Error != nil && *e.Error != (events.Failure{}) {
		failure = " (" + strings.TrimSpace(e.Error.Code+" "+e.Error.Message) + ")"
	}
	switch name {
	case events.RetrySuccess:
		return "after " + wording.Short(e.ElapsedMs)
	case events.RetryFailed:
		return string(e.Reason) + ": " + e.Detail + failure
	case events.RetryScheduled:
		return "again in " + wording.Short(e.DelayMs) + ", " + e.Strategy + failure
	case events.PauseChanged:
		return detailOf(data, pauseDetail)
	case events.BreakerChanged:
		return detailOf(data, breakerDetail)
	case events.BackpressureChanged:
		return detailOf(data, backpressureDetail)
	}
	return ""
}

// detailOf reads the data of an event, which has names in common with those of others.
func detailOf[T any](data []byte, of func(*T) string) string {
	var change T
	if err := json.Unmarshal(data, &change); err != nil {
		return "" // printRow has read it
	}
	return of(&change)
}

// breakerDetail says what happened to a breaker.
func breakerDetail(c *events.BreakerChange) string {
	text := fmt.Sprintf("%s → %s: %s", c.From, c.To, c.Cause)
	if c.From == c.To {
		text = fmt.Sprintf("%s: %s", c.To, c.Cause)
	}
	if c.By != "" {
		text += " by " + c.By
	}
	if c.FailureCount > 0 {
		text += ", " + wording.Many(c.FailureCount, "failure")
	}
	switch {
	case c.Held:
		text += ", until it is reset"
	case !c.NextAttemptTime.IsZero():
		text += ", next attempt at " + c.NextAttemptTime.Local().Format("15:04:05")
	}
	if c.Note != "" {
		text += ": " + c.Note
	}
	return text
}

// backpressureDetail says what happened to global backpressure.
func backpressureDetail(c *events.BackpressureChange) string {
	state := "off"
	if c.On {
		state = "on: " + c.Cause
	}
	return fmt.Sprintf("%s, %d of %s failing, %s in flight", state, c.FailingServices, wording.Many(c.VotingServices, "service"), wording.Many(c.ActiveRetries, "attempt"))
}

// pauseDetail says what happened to a pause.
func pauseDetail(c *events.PauseChange) string {
	text := c.Cause
	if c.By != "" {
		text += " by " + c.By
	}
	if !c.Until.IsZero() {
		text += " until " + wording.Moment(c.Until)
	}
	if c.Note != "" {
		text += ": " + c.Note
	}
	return text
}

// printEvent prints the event's data in one line, with the event's name in
// front.
func printEvent(a *command.App, t storedEvent) error {
	var line bytes.Buffer
	if err := json.Compact(&line, t.data); err != nil {
		a.Say("the message on %s is no event: %v", t.subject, err)
		return nil
	}
	if !bytes.HasPrefix(line.Bytes(), []byte("{")) {
		a.Say("the message on %s is no event", t.subject)
		return nil
	}
	rest := line.Bytes()[1:]
	comma := ","
	if rest[0] == '}' {
		comma = ""
	}
	_, err := fmt.Fprintf(a.Stdout, "{\"event\":%q%s%s\n", eventName(t.subject), comma, rest)
	return err
}

// eventName returns the event's name: the third token from the end of its subject.
func eventName(subject string) string {
	tokens := strings.Split(subject, ".")
	if len(tokens) < 3 {
		return subject
	}
	return tokens[len(tokens)-3]
}
