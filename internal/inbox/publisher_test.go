package inbox_test

import (
	"context"
	"errors"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/internal/inbox"
	"github.com/rebound-mq/rebound/internal/testkit"
)

// TestPublisher_AnswersLikeTheClientLibrary publishes by both to the same stream.
func TestPublisher_AnswersLikeTheClientLibrary(t *testing.T) {
	t.Parallel()
	nc := testkit.Connect(t, testkit.Server(t).ClientURL())
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}, MaxMsgSize: 1000}); err != nil {
		t.Fatal(err)
	}
	if _, err := nc.Subscribe("plain", func(m *nats.Msg) { _ = m.Respond([]byte("hello")) }); err != nil {
		t.Fatal(err)
	}
	ours := inbox.Publisher{Inbox: open(t, nc)}
	for name, message := range map[string]func() *nats.Msg{
		"stored":    func() *nats.Msg { return nats.NewMsg("s.a") },
		"duplicate": func() *nats.Msg { return &nats.Msg{Subject: "s.b", Header: nats.Header{jetstream.MsgIDHeader: {"1"}}} },
		"refused by compare-and-set": func() *nats.Msg {
			return &nats.Msg{Subject: "s.c", Header: nats.Header{jetstream.ExpectedLastSubjSeqHeader: {"99"}}}
		},
		"too large":            func() *nats.Msg { return &nats.Msg{Subject: "s.d", Data: make([]byte, 1001)} },
		"no stream":            func() *nats.Msg { return nats.NewMsg("nobody") },
		"not a stream's reply": func() *nats.Msg { return nats.NewMsg("plain") },
	} {
		t.Run(name, func(t *testing.T) {
			theirs, want := js.PublishMsg(t.Context(), message())
			got, err := ours.PublishMsg(t.Context(), message())
			var wanted, had *jetstream.APIError
			errors.As(want, &wanted)
			errors.As(err, &had)
			switch {
			case (want == nil) != (err == nil), wanted != nil && (had == nil || had.ErrorCode != wanted.ErrorCode):
				t.Fatalf("the error is %v, want %v", err, want)
			case want != nil && wanted == nil && !errors.Is(err, want):
				t.Fatalf("the error is %v, want %v", err, want)
			case want == nil && (got.Stream != theirs.Stream || got.Sequence < theirs.Sequence || got.Duplicate != (name == "duplicate")):
				t.Errorf("the acknowledgement is %+v after %+v", got, theirs)
			}
		})
	}
}

func TestPublisher_SecondMessageFollowsOnlyANewFirst(t *testing.T) {
	t.Parallel()
	nc := testkit.Connect(t, testkit.Server(t).ClientURL())
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}})
	if err != nil {
		t.Fatal(err)
	}
	message := func(subject, header, value string) *nats.Msg {
		return &nats.Msg{Subject: subject, Header: nats.Header{header: {value}}}
	}
	if _, err := js.PublishMsg(t.Context(), message("s.seen", jetstream.MsgIDHeader, "seen")); err != nil {
		t.Fatal(err)
	}
	ours := inbox.Publisher{Inbox: open(t, nc)}
	for name, c := range map[string]struct {
		first, next *nats.Msg
		err         error
		followed    bool
		nextErr     error
		stored      uint64
	}{
		"both are new":           {nats.NewMsg("s.a"), nats.NewMsg("s.b"), nil, true, nil, 2},
		"the second is known":    {nats.NewMsg("s.a"), message("s.b", jetstream.MsgIDHeader, "seen"), nil, true, nil, 1},
		"the second is refused":  {nats.NewMsg("s.a"), message("s.b", jetstream.ExpectedLastSeqHeader, "999"), nil, true, new(jetstream.APIError), 1},
		"nobody gets the second": {nats.NewMsg("s.a"), nats.NewMsg("nobody"), nil, true, jetstream.ErrNoStreamResponse, 1},
		"the first is known":     {message("s.a", jetstream.MsgIDHeader, "seen"), nats.NewMsg("s.b"), nil, false, nil, 0},
		"the first is refused":   {message("s.a", jetstream.ExpectedLastSeqHeader, "999"), nats.NewMsg("s.b"), new(jetstream.APIError), false, nil, 0},
		"nobody gets the first":  {nats.NewMsg("nobody"), nats.NewMsg("s.b"), jetstream.ErrNoStreamResponse, false, nil, 0},
		"the first is bad":       {nats.NewMsg(""), nats.NewMsg("s.b"), nats.ErrBadSubject, false, nil, 0},
		"the second is bad":      {nats.NewMsg("s.a"), nats.NewMsg(""), nil, true, nats.ErrBadSubject, 1},
	} {
		before := sequence(t, stream)
		a := ours.PublishBoth(t.Context(), c.first, c.next)
		if !sameKind(a.Err, c.err) || a.Followed != c.followed || !sameKind(a.NextErr, c.nextErr) {
			t.Errorf("%s: the answers are %+v, want the errors %v and %v, followed %v", name, a, c.err, c.nextErr, c.followed)
		}
		if stored := sequence(t, stream) - before; stored != c.stored {
			t.Errorf("%s: %d messages are stored, want %d", name, stored, c.stored)
		}
	}
}

func sequence(t *testing.T, stream jetstream.Stream) uint64 {
	t.Helper()
	info, err := stream.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return info.State.LastSeq
}

// sameKind reports whether err is want, or an error of the API like it.
func sameKind(err, want error) bool {
	if errors.As(want, new(*jetstream.APIError)) {
		return errors.As(err, new(*jetstream.APIError))
	}
	return errors.Is(err, want)
}

func TestPublisher_SecondMessageThatNobodyAnswersIsNotKnownToBeStored(t *testing.T) {
	t.Parallel()
	nc := testkit.Connect(t, testkit.Server(t).ClientURL())
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}}); err != nil {
		t.Fatal(err)
	}
	heard := make(chan *nats.Msg, 1)
	if _, err := nc.ChanSubscribe("silent", heard); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-heard; cancel() }()
	a := inbox.Publisher{Inbox: open(t, nc)}.PublishBoth(ctx, nats.NewMsg("s.a"), nats.NewMsg("silent"))
	if a.Err != nil || a.Ack.Sequence != 1 || !a.Followed || !errors.Is(a.NextErr, context.Canceled) {
		t.Errorf("the answers are %+v, want that the first is stored and the second was given up", a)
	}
}

func TestPublisher_PublishesNothingOnceItsContextHasEnded(t *testing.T) {
	t.Parallel()
	nc := testkit.Connect(t, testkit.Server(t).ClientURL())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (inbox.Publisher{Inbox: open(t, nc)}).PublishMsg(ctx, nats.NewMsg("nobody")); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v, want %v", err, context.Canceled)
	}
}
