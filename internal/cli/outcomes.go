package cli

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/rebound-mq/rebound/events"
)

// told is one outcome or event as it is stored.
type told struct {
	subject  string
	at       time.Time
	data     []byte
	sequence uint64
	// pending is how many more there are by now.
	pending uint64
}

// outcomeQuery says which outcomes are wanted.
type outcomeQuery struct {
	service, operation string
	// name is one outcome, empty for both.
	name string
	// events adds those events that are no outcomes.
	events bool
	since  time.Time
}

func (a *app) outcomesCommand() *cobra.Command {
	var (
		query              outcomeQuery
		since              whenFlag
		count              int
		noFollow           bool
		service, operation nameFlag
	)
	cmd := &cobra.Command{
		Use:   "outcomes",
		Short: "Follow how operations end",
		Example: `  rebound outcomes --since 10m
  rebound outcomes --service billing --only failed --output json
  rebound outcomes --no-follow --since 7d --output json | jq -r 'select(.reason=="exhausted").id'`,
		Args: noArgs,
	}
	flags := cmd.Flags()
	flags.Var(&since, "since", "begin then: how long ago (10m, 7d), or an RFC 3339 time; without it with what comes, or with --no-follow at the beginning")
	flags.Var(&service, "service", "only of this service")
	flags.Var(&operation, "operation", "only of this operation type")
	only := wordVar(cmd, "only", "", "only this outcome", "success", "failed")
	flags.BoolVar(&query.events, "events", false, "also each decision and what else happens (retryScheduled, …)")
	flags.IntVar(&count, "count", 0, "end after this many, 0 for no end")
	flags.BoolVar(&noFollow, "no-follow", false, "end after what is stored by now")
	output := outputVar(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if count < 0 {
			return usagef("--count %d is negative", count)
		}
		query.service, query.operation, query.since = string(service), string(operation), since.at
		query.name = map[string]string{"success": events.RetrySuccess, "failed": events.RetryFailed}[only.value]
		return a.connected(cmd, func(s *session) error {
			print := a.outcomePrinter(output.value)
			n := 0
			for t, err := range s.follow(cmd.Context(), query, noFollow) {
				if err != nil {
					if cmd.Context().Err() != nil {
						// It was told to stop while it was still beginning.
						break
					}
					return err
				}
				if err := print(t); err != nil {
					return err
				}
				if n++; n == count {
					break
				}
			}
			return nil
		})
	}
	return cmd
}

// follow reads what is told until ctx ends, which is no error, or, with
// onlyKept, until the end of what is stored by now.
func (s *session) follow(ctx context.Context, q outcomeQuery, onlyKept bool) iter.Seq2[told, error] {
	return func(yield func(told, error) bool) {
		end, err := s.lastSequence(ctx, s.streams.Outcomes())
		if err != nil {
			yield(told{}, err)
			return
		}
		consumer, err := s.js.OrderedConsumer(ctx, s.streams.Outcomes(), q.consumer(s.subjects, onlyKept))
		if err != nil {
			yield(told{}, fmt.Errorf("following the outcomes: %w", err))
			return
		}
		if onlyKept && consumer.CachedInfo().NumPending == 0 {
			return
		}
		messages, err := consumer.Messages()
		if err != nil {
			yield(told{}, fmt.Errorf("following the outcomes: %w", err))
			return
		}
		defer messages.Stop()
		for {
			t, err := next(ctx, messages)
			switch {
			case ctx.Err() != nil:
				return
			case errors.Is(err, context.DeadlineExceeded):
				// What was still to come may have been removed meanwhile.
				info, err := consumer.Info(ctx)
				if onlyKept && err == nil && info.NumPending == 0 {
					return
				}
				continue
			case err != nil:
				yield(told{}, fmt.Errorf("following the outcomes: %w", err))
				return
			case onlyKept && t.sequence > end:
				return
			}
			if !yield(t, nil) || onlyKept && (t.sequence == end || t.pending == 0) {
				return
			}
		}
	}
}

// quiet is how long nothing may come before the state of the stream is asked
// for.
const quiet = 5 * time.Second

func next(ctx context.Context, messages jetstream.MessagesContext) (told, error) {
	ctx, cancel := context.WithTimeout(ctx, quiet)
	defer cancel()
	m, err := messages.Next(jetstream.NextContext(ctx))
	if err != nil {
		return told{}, err
	}
	meta, err := m.Metadata()
	if err != nil {
		return told{}, err
	}
	return told{
		subject: m.Subject(), at: meta.Timestamp, data: m.Data(),
		sequence: meta.Sequence.Stream, pending: meta.NumPending,
	}, nil
}

// consumer describes the consumer that finds what q asks for.
func (q outcomeQuery) consumer(subjects events.Subjects, onlyKept bool) jetstream.OrderedConsumerConfig {
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
	case onlyKept:
		c.DeliverPolicy = jetstream.DeliverAllPolicy
	}
	return c
}

// lastSequence returns the sequence of the last message of a stream.
func (s *session) lastSequence(ctx context.Context, name string) (uint64, error) {
	stream, err := s.js.Stream(ctx, name)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return 0, s.missing(name)
	case err != nil:
		return 0, fmt.Errorf("reading stream %s: %w", name, err)
	}
	return stream.CachedInfo().State.LastSeq, nil
}
