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

func TestPublisher_PublishesNothingOnceItsContextHasEnded(t *testing.T) {
	t.Parallel()
	nc := testkit.Connect(t, testkit.Server(t).ClientURL())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (inbox.Publisher{Inbox: open(t, nc)}).PublishMsg(ctx, nats.NewMsg("nobody")); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v, want %v", err, context.Canceled)
	}
}
