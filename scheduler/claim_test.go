package scheduler

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

func TestJudge_EndsAClaimByPositiveProofAlone(t *testing.T) {
	for says, c := range map[string]struct {
		found     uint64 // the version, 0 for nothing
		run       int    // the run of what is found; the holder's is 1
		concluded bool
		want      claim
	}{
		"its own version stands":                     {5, 1, false, holds},
		"a newer version stands":                     {6, 1, false, over},
		"a newer version of the next run stands":     {6, 2, false, over},
		"a newer version of an earlier run stands":   {6, 0, false, doubt},
		"an older version stands":                    {4, 1, false, doubt},
		"nothing stands":                             {0, 1, false, doubt},
		"its own version stands and the run is over": {5, 1, true, over},
		"an older version and the run is over":       {4, 1, true, over},
		"nothing stands and the run is over":         {0, 1, true, over},
	} {
		t.Run(says, func(t *testing.T) {
			w := Waiting{Version: c.found, Op: &events.Operation{Replay: c.run}}
			if got := judge(&events.Operation{Replay: 1}, 5, w, c.found > 0, c.concluded); got != c.want {
				t.Errorf("judge = %d, want %d", got, c.want)
			}
		})
	}
}

// answering is a store that answers Place and Find from lists, repeating the last
// answer.
type answering struct {
	Store
	places []error
	finds  []found
	placed []Message
	states []events.Operation
	looked int
	ended  []string
	buried int
}

type found struct {
	version uint64 // 0 is nothing
	replay  int
	attempt int
	dead    *events.DeadLetterRef
	work    *events.Work
	due     time.Time
	err     error
}

func next[T any](answers []T, n int) (answer T) {
	if len(answers) > 0 {
		answer = answers[min(n, len(answers)-1)]
	}
	return answer
}

func (s *answering) Place(_ context.Context, op *events.Operation, m Message) error {
	s.placed, s.states = append(s.placed, m), append(s.states, *op)
	return next(s.places, len(s.placed)-1)
}

func (s *answering) Schedule(ctx context.Context, op *events.Operation, m Message, _ events.Scheduled) error {
	return s.Place(ctx, op, m)
}

func (s *answering) Watch(_ context.Context, op *events.Operation, m Message) (Message, error) {
	s.placed, s.states = append(s.placed, m), append(s.states, *op)
	return m, nil
}

func (s *answering) Find(_ context.Context, op *events.Operation) (Waiting, bool, error) {
	s.looked++
	f := next(s.finds, s.looked-1)
	if f.err != nil || f.version == 0 {
		return Waiting{}, false, f.err
	}
	state := *op
	state.Replay, state.Attempt, state.Dead = f.replay, max(f.attempt+1, 0), f.dead
	if !f.due.IsZero() {
		state.Due = f.due
	}
	if f.work != nil {
		work := *f.work
		state.Work, state.Due = &work, f.due
	}
	return Waiting{Version: f.version, Stored: time.Now(), Op: &state}, true, nil
}

func (s *answering) Scheduled(context.Context, *events.Operation, events.Scheduled) error { return nil }

func (s *answering) Bury(context.Context, *events.Operation, Message, events.Reason, string) error {
	s.buried++
	return nil
}

func (s *answering) Ended(_ context.Context, _ *events.Operation, _ Message, o events.Outcome) error {
	s.ended = append(s.ended, o.Outcome)
	return nil
}

// ended says of every run whether it has ended.
type ended bool

func (e ended) Concluded(context.Context, *events.Operation, time.Time) (bool, error) {
	return bool(e), nil
}

func (s *answering) pipeline(ends Ends, target Target) *Pipeline {
	return &Pipeline{
		Policies: policy.Builtin, Store: s, Ends: ends, Target: target, CheckTarget: func(string) error { return nil },
		Now: time.Now, Random: fixed(0.5), Draining: make(chan struct{}),
	}
}

func waiting() *events.Operation {
	return &events.Operation{ID: "0123456789abcdef0123456789abcdef", Service: "s", Operation: "o", Attempt: 1, FirstFailure: time.Now()}
}

var errBroken = errors.New("the store is broken")

func TestAdvance_GoesOnUntilItIsProvedWhoHasTheOperation(t *testing.T) {
	moved := []error{ErrMoved}
	for says, c := range map[string]struct {
		places []error
		finds  []found
		ends   bool
		want   error
		// stored are the versions in whose place a write was tried.
		stored []uint64
		forked bool
	}{
		"stored at once": {nil, nil, false, nil, []uint64{5}, false},
		"refused, and its own version stands": {
			[]error{ErrMoved, nil}, []found{{version: 5}}, false, nil, []uint64{5, 5}, false,
		},
		"refused, and a newer version stands": {moved, []found{{version: 6}}, false, nil, []uint64{5}, false},
		"refused, and an older version is seen before a newer": {
			moved, []found{{version: 4}, {version: 4}, {version: 6}}, false, nil, []uint64{5, 5, 5}, false,
		},
		"refused, and nothing is seen before its own": {
			[]error{ErrMoved, ErrMoved, nil}, []found{{}, {version: 5}}, false, nil, []uint64{5, 5, 5}, false,
		},
		"refused, nothing is stored, and the outcome is published": {moved, []found{{}}, true, nil, []uint64{5}, false},
		"refused, and nothing stands for long": {
			[]error{ErrMoved, ErrMoved, ErrMoved, ErrMoved, ErrMoved, nil}, []found{{}}, false, nil, []uint64{5, 5, 5, 5, 5, 0}, true,
		},
		"refused, and an older version stands for long": {
			[]error{ErrMoved, ErrMoved, ErrMoved, ErrMoved, ErrMoved, nil}, []found{{version: 3}}, false, nil, []uint64{5, 5, 5, 5, 5, 3}, true,
		},
		"refused for ever": {moved, []found{{version: 5}}, false, errDoubt, []uint64{5, 5, 5, 5, 5, 5, 5, 5, 5}, false},
		"the look fails":   {moved, []found{{err: errBroken}}, false, errBroken, []uint64{5}, false},
		"storing fails":    {[]error{errBroken}, nil, false, errBroken, []uint64{5}, false},
	} {
		t.Run(says, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &answering{places: c.places, finds: c.finds}
				op := waiting()
				err := s.pipeline(ended(c.ends), nil).advance(t.Context(), op, Message{Version: 5, Stored: time.Now()}, s.Place)
				if !errors.Is(err, c.want) {
					t.Errorf("the error is %v, want %v", err, c.want)
				}
				var stored []uint64
				for _, m := range s.placed {
					stored = append(stored, m.Version)
				}
				if !slices.Equal(stored, c.stored) {
					t.Errorf("it was tried to store on %v, want %v", stored, c.stored)
				}
				if forked := op.Repeats == events.AnyAttempt; forked != c.forked {
					t.Errorf("the state is a fork: %v, want %v", forked, c.forked)
				}
			})
		})
	}
}

func TestAccept_TakesAnUnseenOperationForADoubt(t *testing.T) {
	for says, c := range map[string]struct {
		places []error
		finds  []found
		want   error
		tries  int
	}{
		"stored at once":                       {nil, nil, nil, 1},
		"taken in before":                      {[]error{ErrTaken}, nil, nil, 1},
		"refused, and it is here":              {[]error{ErrMoved}, []found{{version: 6}}, nil, 1},
		"refused, not seen, and then it is":    {[]error{ErrMoved}, []found{{}, {}, {version: 6}}, nil, 3},
		"refused, not seen, and then stored":   {[]error{ErrMoved, nil}, []found{{}}, nil, 2},
		"refused and not seen for ever":        {[]error{ErrMoved}, []found{{}}, errDoubt, 10},
		"the look fails, so it comes again":    {[]error{ErrMoved}, []found{{err: errBroken}}, errBroken, 1},
		"the store fails, so it comes again":   {[]error{errBroken}, nil, errBroken, 1},
		"refused by something that is foreign": {[]error{ErrMoved}, []found{{err: ErrForeign}}, ErrForeign, 1},
	} {
		t.Run(says, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &answering{places: c.places, finds: c.finds}
				err := s.pipeline(nil, nil).Accept(t.Context(), waiting(), Message{Name: "n", Stored: time.Now()})
				if !errors.Is(err, c.want) || len(s.placed) != c.tries {
					t.Errorf("the error is %v after %d tries, want %v after %d", err, len(s.placed), c.want, c.tries)
				}
			})
		})
	}
}

func TestAccept_WhatReplacesAnOperationThatMayBeFiringIsContested(t *testing.T) {
	for _, c := range []struct {
		rest      time.Duration // until the waiting operation is due
		contested bool
	}{{time.Minute, false}, {EarlyArming + NearFiring/2, true}, {-time.Second, true}} {
		s := &answering{places: []error{ErrMoved, nil}, finds: []found{{version: 6, due: time.Now().Add(c.rest)}}}
		op := waiting()
		op.Attempt = 2
		if err := s.pipeline(nil, nil).Accept(t.Context(), op, Message{Name: "n", Stored: time.Now()}); err != nil {
			t.Fatal(err)
		}
		if len(s.states) != 2 {
			t.Fatalf("%d tries to store, want 2", len(s.states))
		}
		if got := !s.states[1].Contested.IsZero() && s.states[1].Repeats > op.Attempt; got != c.contested {
			t.Errorf("of an operation due in %v: contested = %v, want %v", c.rest, got, c.contested)
		}
	}
}

func TestReplay_EndsWhenItsOwnRunIsSeen(t *testing.T) {
	ours, other := &events.DeadLetterRef{Sequence: 9, DiedAt: time.Unix(1, 0)}, &events.DeadLetterRef{Sequence: 9, DiedAt: time.Unix(2, 0)}
	for says, c := range map[string]struct {
		places []error
		finds  []found
		want   error
		stored []uint64
		// left is whether the stored operation removes the dead letter.
		left bool
	}{
		"stored at once":                      {nil, nil, nil, []uint64{0}, true},
		"taken in before":                     {[]error{ErrTaken}, nil, nil, []uint64{0}, true},
		"refused, and it is here":             {[]error{ErrMoved}, []found{{version: 6, replay: 1, dead: ours}}, nil, []uint64{0}, true},
		"refused, and it has begun":           {[]error{ErrMoved}, []found{{version: 6, replay: 1}}, nil, []uint64{0}, false},
		"refused by another dead letter's":    {[]error{ErrMoved}, []found{{version: 6, replay: 1, dead: other}}, nil, []uint64{0}, false},
		"refused by what an earlier run left": {[]error{ErrMoved, nil}, []found{{version: 6}}, nil, []uint64{0, 6}, true},
		"refused, not seen, and then it is":   {[]error{ErrMoved}, []found{{}, {version: 6, replay: 1, dead: ours}}, nil, []uint64{0, 0}, true},
		"refused and not seen for ever":       {[]error{ErrMoved}, []found{{}}, errDoubt, slices.Repeat([]uint64{0}, 9), false},
	} {
		t.Run(says, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &answering{places: c.places, finds: c.finds}
				op := waiting()
				op.Replay, op.Dead = 1, ours
				left, err := s.pipeline(nil, nil).Replay(t.Context(), op, Message{Name: "n", Stored: time.Now()})
				var stored []uint64
				for _, m := range s.placed {
					stored = append(stored, m.Version)
				}
				if !errors.Is(err, c.want) || !slices.Equal(stored, c.stored) || left != c.left {
					t.Errorf("the error is %v after tries on %v, the dead letter is left: %v; want %v, %v and %v", err, stored, left, c.want, c.stored, c.left)
				}
			})
		})
	}
}

// target makes the attempts of a test.
type target struct {
	fails    bool
	attempts []bool // whether each was marked as a repeat
	during   func()
}

func (tg *target) Deliver(_ context.Context, _ *events.Operation, _ Message, a Attempt) (Reply, error) {
	tg.attempts = append(tg.attempts, a.Repeated)
	if tg.during != nil {
		tg.during()
	}
	return Reply{Failed: tg.fails, Failure: policy.Failure{Code: "404", Message: "not found"}}, nil
}

func TestAttempt_OfASharedMessageIsARepeatUnlessTheClaimIsOver(t *testing.T) {
	for says, c := range map[string]struct {
		finds    []found
		ends     bool
		attempts []bool
	}{
		"its own version stands":  {[]found{{version: 5}}, false, []bool{true}},
		"nothing stands":          {[]found{{}}, false, []bool{true}},
		"an older version stands": {[]found{{version: 4}}, false, []bool{true}},
		"a newer version stands":  {[]found{{version: 6}}, false, nil},
		"the run has ended":       {[]found{{version: 5}}, true, nil},
	} {
		t.Run(says, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, tg := &answering{finds: c.finds}, &target{}
				m := Message{Version: 5, Stored: time.Now(), Shared: func() bool { return true }}
				if err := s.pipeline(ended(c.ends), tg).Attempt(t.Context(), waiting(), m); err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(tg.attempts, c.attempts) {
					t.Errorf("attempts by whether they were repeats: %v, want %v", tg.attempts, c.attempts)
				}
				if len(s.ended) != 0 || s.buried != 0 || len(s.placed) != len(c.attempts) {
					t.Errorf("outcomes %v, %d dead letters, %d states stored; want the result of each attempt stored and nothing published", s.ended, s.buried, len(s.placed))
				}
			})
		})
	}
}

func TestAttempt_OfASharedMessageThatWaitedAtTheGateIsLookedAtAgain(t *testing.T) {
	for _, c := range []struct {
		wait     time.Duration
		attempts int
	}{{time.Millisecond, 1}, {lookAge + time.Millisecond, 0}} {
		s, tg := &answering{finds: []found{{version: 5}, {version: 6}}}, &target{}
		p := s.pipeline(ended(false), tg)
		now := time.Now()
		p.Now = func() time.Time {
			now = now.Add(c.wait)
			return now
		}
		m := Message{Version: 5, Stored: now, Shared: func() bool { return true }}
		if err := p.Attempt(t.Context(), waiting(), m); err != nil {
			t.Fatal(err)
		}
		if len(tg.attempts) != c.attempts {
			t.Errorf("%v at the gate, and another went on with it meanwhile: %d attempts, want %d", c.wait, len(tg.attempts), c.attempts)
		}
	}
}

func TestAttempt_ThatIsSharedMeanwhileHasItsResultStoredBeforeItIsPublished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shared := false
		s, tg := &answering{finds: []found{{version: 5}}}, &target{during: func() { shared = true }}
		m := Message{Version: 5, Stored: time.Now(), Shared: func() bool { return shared }}
		if err := s.pipeline(ended(false), tg).Attempt(t.Context(), waiting(), m); err != nil {
			t.Fatal(err)
		}
		if len(s.ended) != 0 || len(s.states) != 1 || s.states[0].Work == nil || s.states[0].Work.Result == nil || s.states[0].Contested.IsZero() {
			t.Errorf("outcomes %v and %d states, want a contested state with the result alone", s.ended, len(s.states))
		}
	})
}

func TestAttempt_ThatEndsTheRunInADeadLetterIsStoredFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, tg := &answering{}, &target{fails: true}
		p := s.pipeline(ended(false), tg)
		op := waiting()
		op.Attempt = usual().MaxAttempts - 1
		if err := p.Attempt(t.Context(), op, Message{Version: 5, Stored: time.Now()}); err != nil {
			t.Fatal(err)
		}
		if s.buried != 0 || len(s.states) != 1 || s.states[0].Work == nil || s.states[0].Attempt != usual().MaxAttempts-1 {
			t.Fatalf("%d dead letters and states %+v, want the result alone", s.buried, s.states)
		}
		kept := s.states[0]
		if err := p.Attempt(t.Context(), &kept, Message{Version: 6, Stored: time.Now()}); err != nil {
			t.Fatal(err)
		}
		if s.buried != 1 || !slices.Equal(s.ended, []string{events.RetryFailed}) || len(tg.attempts) != 1 {
			t.Errorf("%d dead letters, outcomes %v and %d attempts, want one of each", s.buried, s.ended, len(tg.attempts))
		}
	})
}

func TestReport_LooksAgainForWhatIsNotSeenYet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &answering{finds: []found{{}}}
		report := events.Report{ID: waiting().ID, Attempt: 2, Token: "t", Result: events.Succeeded}
		err := s.pipeline(nil, nil).Report(t.Context(), "s", "o", report, time.Now())
		var refused *RefusedError
		if !errors.As(err, &refused) || refused.Refusal != RefusedUnknown || s.looked != reportRounds+1 {
			t.Errorf("the error is %v after %d looks, want unknown after %d", err, s.looked, reportRounds+1)
		}
	})
}

func TestReport_ThatMayMeetItsWatchdogIsContested(t *testing.T) {
	for says, c := range map[string]struct {
		timeout, after time.Duration
		result         events.Result
		contested      bool
	}{
		"in time":                             {10 * time.Second, 5 * time.Second, events.Succeeded, false},
		"a moment before the watchdog":        {10 * time.Second, 9500 * time.Millisecond, events.Succeeded, true},
		"a heartbeat in that moment":          {10 * time.Second, 9500 * time.Millisecond, events.Working, true},
		"after the watchdog":                  {10 * time.Second, 11 * time.Second, events.Failed, true},
		"in time of a short attempt":          {time.Second, 700 * time.Millisecond, events.Succeeded, false},
		"a moment before that of a short one": {time.Second, 800 * time.Millisecond, events.Succeeded, true},
	} {
		t.Run(says, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				started := time.Now()
				work := &events.Work{Token: "t", Attempt: 3, Started: started}
				s := &answering{finds: []found{{version: 5, attempt: 1, work: work, due: started.Add(c.timeout)}}}
				time.Sleep(c.after)
				report := events.Report{ID: waiting().ID, Attempt: 3, Token: "t", Result: c.result}
				if err := s.pipeline(nil, nil).Report(t.Context(), "s", "o", report, time.Now()); err != nil {
					t.Fatal(err)
				}
				if len(s.states) != 1 {
					t.Fatalf("%d states are stored, want 1", len(s.states))
				}
				state := s.states[0]
				if contested := state.Contested.Equal(started) && state.Repeats == events.AnyAttempt; contested != c.contested {
					t.Errorf("what is stored is contested since %s with repeats %d, want so: %v", state.Contested, state.Repeats, c.contested)
				}
			})
		})
	}
}
