package handlers

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/micro"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/deadletter"
	"github.com/rebound-mq/rebound/schemas"
)

// deadRequests answers requests about dead letters.
type deadRequests struct{ letters *deadletter.Letters }

func (q deadRequests) list(ctx context.Context, r micro.Request) (any, error) {
	var f events.DeadLetterFilter
	if err := read(r, &f); err != nil {
		return nil, err
	}
	if err := bound(&f, schemas.DefaultListLimit, schemas.MaxListLimit); err != nil {
		return nil, err
	}
	list := schemas.DeadList{DeadLetters: []schemas.DeadSummary{}}
	for d, err := range q.letters.List(ctx, f) {
		if err != nil {
			return nil, err
		}
		list.DeadLetters = append(list.DeadLetters, schemas.SummariseDead(d))
		if len(list.DeadLetters) == f.Limit {
			list.Next = d.Sequence
		}
	}
	return list, nil
}

func (q deadRequests) show(ctx context.Context, r micro.Request) (any, error) {
	var request schemas.DeadShow
	if err := read(r, &request); err != nil {
		return nil, err
	}
	if err := (events.DeadLetterFilter{IDs: []string{request.ID}}).Check(); err != nil {
		return nil, badRequestError{err}
	}
	return q.letters.Get(ctx, request.ID)
}

func (q deadRequests) replay(ctx context.Context, r micro.Request) (any, error) {
	return q.act(ctx, r, q.letters.Replay)
}

func (q deadRequests) discard(ctx context.Context, r micro.Request) (any, error) {
	return q.act(ctx, r, q.letters.Discard)
}

// act calls do for every dead letter that a request selects.
func (q deadRequests) act(ctx context.Context, r micro.Request, do func(context.Context, *events.DeadLetter) error) (any, error) {
	var request schemas.DeadAct
	if err := read(r, &request); err != nil {
		return nil, err
	}
	if request.Everything() && !request.All {
		return nil, badRequestError{errors.New("the filter selects every dead letter; set all to true if that is meant")}
	}
	if err := bound(&request.DeadLetterFilter, schemas.MaxActLimit, schemas.MaxActLimit); err != nil {
		return nil, err
	}
	var acted schemas.DeadActed
	for d, err := range q.letters.List(ctx, request.DeadLetterFilter) {
		if err != nil {
			return nil, err
		}
		acted.Matched++
		if !request.DryRun {
			switch err := do(ctx, d); {
			case err == nil:
				acted.Done++
			case !errors.Is(err, deadletter.ErrNotFound):
				return nil, fmt.Errorf("after %d of them: %w", acted.Done, err)
			}
		}
		if acted.Matched == request.Limit {
			acted.Next = d.Sequence
		}
	}
	return acted, nil
}

// bound checks a filter and gives it a limit.
func bound(f *events.DeadLetterFilter, otherwise, most int) error {
	if err := f.Check(); err != nil {
		return badRequestError{err}
	}
	if f.IDs != nil && len(f.IDs) == 0 {
		return badRequestError{errors.New("ids is an empty list; leave it out to select any")}
	}
	if f.Limit == 0 {
		f.Limit = otherwise
	}
	if f.Limit > most {
		return badRequestError{fmt.Errorf("limit %d is more than the %d allowed", f.Limit, most)}
	}
	return nil
}
