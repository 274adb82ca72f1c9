package opstore

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/scheduler"
)

// newStore returns a store without lanes, whose pauses have no jitter.
func newStore(js jetstream.JetStream) *Store {
	persister := NewPersister(NewStorage(js, nil), slog.New(slog.DiscardHandler), func() float64 { return 0.5 })
	return New(js, persister, Config{})
}

// scripted is a JetStream that answers publishes with a list of errors and then stores.
type scripted struct {
	jetstream.JetStream
	errs []error
	took time.Duration // until each answer
	sent []*nats.Msg
}

func (s *scripted) Stream(context.Context, string) (jetstream.Stream, error) { return nil, nil }

func (s *scripted) PublishMsg(_ context.Context, m *nats.Msg, _ ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	time.Sleep(s.took)
	s.sent = append(s.sent, &nats.Msg{Subject: m.Subject, Header: maps.Clone(m.Header)})
	if n := len(s.sent) - 1; n < len(s.errs) && s.errs[n] != nil {
		return nil, s.errs[n]
	}
	return &jetstream.PubAck{Sequence: 7}, nil
}

func TestStore_PlaceDoesWhatTheAnswersProve(t *testing.T) {
	for says, c := range map[string]struct {
		errs      []error
		tries     int
		moved     bool
		contested bool
	}{
		"stored at once":                             {nil, 1, false, false},
		"pending and then stored":                    {[]error{apiError(10164)}, 2, false, false},
		"no leader for a while and then stored":      {[]error{apiError(10008), nats.ErrNoResponders}, 3, false, false},
		"unknown and then stored, which is a fork":   {[]error{context.DeadlineExceeded}, 2, false, true},
		"moved at once":                              {[]error{apiError(10071)}, 1, true, false},
		"pending and then moved":                     {[]error{apiError(10164), apiError(10164), apiError(10071)}, 3, true, false},
		"unknown, pending and then moved":            {[]error{nats.ErrTimeout, apiError(10164), apiError(10071)}, 3, true, true},
		"unknown twice and then stored, as one fork": {[]error{nats.ErrTimeout, nats.ErrTimeout}, 3, false, true},
	} {
		t.Run(says, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				js := &scripted{errs: c.errs}
				s := newStore(js)
				stored := time.Now().Add(-time.Second).UTC()
				op := &events.Operation{ID: "0123456789abcdef0123456789abcdef", Service: "s", Operation: "o", Attempt: 1, Due: time.Now()}
				err := s.Place(t.Context(), op, scheduler.Message{Version: 5, Stored: stored})
				if moved := errors.Is(err, scheduler.ErrMoved); moved != c.moved || err != nil && !moved {
					t.Errorf("the error is %v, want moved %v", err, c.moved)
				}
				if len(js.sent) != c.tries {
					t.Fatalf("it was sent %d times, want %d", len(js.sent), c.tries)
				}
				last := js.sent[len(js.sent)-1]
				if got := last.Header.Get(jetstream.ExpectedLastSubjSeqHeader); got != "5" {
					t.Errorf("the last try expects version %s, want 5", got)
				}
				state, err := wire.ReadState(last.Header)
				if err != nil {
					t.Fatal(err)
				}
				if contested := state.Contested.Equal(stored) && state.Repeats == events.AnyAttempt; contested != c.contested {
					t.Errorf("the state sent last is contested since %s with repeats %d, want a fork: %v", state.Contested, state.Repeats, c.contested)
				}
			})
		})
	}
}

func TestStore_DecisionIsToldOnceItsOperationIsStored(t *testing.T) {
	for says, c := range map[string]struct {
		errs  []error // of what is published, in order
		doubt bool    // whether the last outcome was not stored
		want  []string
		moved bool
	}{
		"both are stored":                          {nil, false, []string{"place", "tell"}, false},
		"the last outcome was not stored":          {nil, true, []string{"place", "tell"}, false},
		"another version is stored":                {[]error{apiError(10071)}, false, []string{"place"}, true},
		"the operation is stored later":            {[]error{apiError(10008)}, false, []string{"place", "place", "tell"}, false},
		"the operation may have been stored twice": {[]error{nats.ErrTimeout}, false, []string{"place", "place", "tell"}, false},
		"the decision is stored later":             {[]error{nil, nats.ErrTimeout, apiError(10008)}, false, []string{"place", "tell", "tell", "tell"}, false},
	} {
		t.Run(says, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				js := &scripted{errs: c.errs}
				s := newStore(js)
				if c.doubt {
					s.outcomes.end(nats.ErrTimeout)
				}
				op := &events.Operation{ID: "0123456789abcdef0123456789abcdef", Service: "s", Operation: "o", Attempt: 1, Due: time.Now()}
				err := s.Schedule(t.Context(), op, scheduler.Message{Version: 5}, events.Scheduled{About: op.About(), Attempt: 1})
				if moved := errors.Is(err, scheduler.ErrMoved); moved != c.moved || err != nil && !moved {
					t.Errorf("the error is %v, want moved %v", err, c.moved)
				}
				var sent []string
				for _, m := range js.sent {
					if m.Subject == s.subjects.Event(events.RetryScheduled, "s", "o") {
						sent = append(sent, "tell")
					} else {
						sent = append(sent, "place")
					}
				}
				if !slices.Equal(sent, c.want) {
					t.Errorf("it does %v, want %v", sent, c.want)
				}
			})
		})
	}
}

func TestStore_DelayIsThatOfOneAnswerWhenADecisionFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(&scripted{took: 100 * time.Millisecond})
		op := &events.Operation{ID: "0123456789abcdef0123456789abcdef", Service: "s", Operation: "o", Attempt: 1, Due: time.Now()}
		if err := s.Schedule(t.Context(), op, scheduler.Message{}, events.Scheduled{About: op.About(), Attempt: 1}); err != nil {
			t.Fatal(err)
		}
		if got := s.Delay(time.Now()); got != 100*time.Millisecond {
			t.Errorf("JetStream takes %v to answer, want 100ms", got)
		}
	})
}

// TestStore_NextStateOfWhatAnotherMayHaveIsMarked stores the next state of an operation whose
// message becomes shared while the store has no leader.
func TestStore_NextStateOfWhatAnotherMayHaveIsMarked(t *testing.T) {
	for says, c := range map[string]struct {
		name    string // of the submission
		repeats bool
	}{
		"a due operation": {"", true},
		"a submission":    {"a submission", false},
	} {
		t.Run(says, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				js := &scripted{errs: []error{apiError(10008), apiError(10008)}}
				stored := time.Now().Add(-time.Second).UTC()
				op := &events.Operation{ID: "0123456789abcdef0123456789abcdef", Service: "s", Operation: "o", Attempt: 1, Due: time.Now()}
				m := scheduler.Message{Version: 5, Stored: stored, Name: c.name, Shared: func() bool { return len(js.sent) > 0 }}
				if err := newStore(js).Place(t.Context(), op, m); err != nil {
					t.Fatal(err)
				}
				for i, want := range []bool{false, true, true} {
					state, err := wire.ReadState(js.sent[i].Header)
					if err != nil {
						t.Fatal(err)
					}
					contested, repeats := state.Contested.Equal(stored), state.Repeats > state.Attempt
					if contested != want || repeats != (want && c.repeats) {
						t.Errorf("try %d: contested %v, attempts marked %v; want %v, %v", i+1, contested, repeats, want, want && c.repeats)
					}
				}
			})
		})
	}
}

func TestStore_OperationThatIsFiredLateAfterAnElectionIsShared(t *testing.T) {
	for says, c := range map[string]struct {
		late, elected    time.Duration // after its time, and before it was fired
		contested, marks bool
	}{
		"in time, under the leader of before": {0, time.Hour, false, false},
		"in time, after an election":          {0, 10 * time.Second, true, false},
		"late, under the leader of before":    {5 * time.Second, time.Hour, false, false},
		"late, after an election":             {5 * time.Second, 2 * time.Second, true, true},
	} {
		t.Run(says, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(time.Minute)
				fired := time.Now()
				v := &voters{elected: fired.Add(-c.elected)}
				s := newStore(&scripted{})
				s.elections = v.elections()
				op := &events.Operation{
					ID: "0123456789abcdef0123456789abcdef", Service: "s", Operation: "o", Attempt: 1, Priority: events.Normal,
					Submitted: fired.Add(-time.Minute), Due: fired.Add(scheduler.EarlyArming - c.late),
				}
				header := nats.Header{HeaderScheduler: {s.subjects.Parked(op.Priority, op.Service, op.Operation, op.ID)}}
				s.elections.Doubts(t.Context(), fired, fired) // asks the leader once
				s.ContestFired(t.Context(), op, scheduler.Message{Header: header, Stored: fired})
				if contested, marks := !op.Contested.IsZero(), op.Repeats > op.Attempt; contested != c.contested || marks != c.marks {
					t.Errorf("contested %v, next attempt marked %v; want %v, %v", contested, marks, c.contested, c.marks)
				}
			})
		})
	}
}
