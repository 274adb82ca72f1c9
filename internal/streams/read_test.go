package streams_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/internal/streams"
)

// silent returns JetStream of a server that receives API requests but does not answer.
func silent(t *testing.T) jetstream.JetStream {
	t.Helper()
	js := jetStream(t)
	nc := js.Conn()
	for _, subject := range []string{"silent.API.STREAM.MSG.GET.X", "silent.API.DIRECT.GET.X"} {
		if _, err := nc.Subscribe(subject, func(*nats.Msg) {}); err != nil {
			t.Fatal(err)
		}
	}
	unanswered, err := jetstream.NewWithAPIPrefix(nc, "silent.API")
	if err != nil {
		t.Fatal(err)
	}
	return unanswered
}

func TestPage_WithoutAnAnswerIsAnError(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	var failed error
	for _, err := range streams.Page(ctx, silent(t), "X", "x.>", 0, 10) {
		failed = err
	}
	if !errors.Is(failed, context.DeadlineExceeded) {
		t.Errorf("reading an unanswered page ends with %v, want DeadlineExceeded", failed)
	}
	if n, err := streams.Count(ctx, silent(t), "X", "x.>"); err == nil {
		t.Errorf("an unanswered count gives %d and no error", n)
	}
}

func TestLeaderGet_GivesUpWhenNobodyAnswers(t *testing.T) {
	t.Parallel()
	began := time.Now()
	_, err := streams.LeaderGet(context.Background(), silent(t), "X", streams.AtSequence(1))
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("after %s the error is %v, want DeadlineExceeded", time.Since(began), err)
	}
}

func TestGetAt_TellsRemovedFromNeverStored(t *testing.T) {
	js := jetStream(t)
	s, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "X", Subjects: []string{"x.>"}, Replicas: 1})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := js.Publish(t.Context(), "x.y", nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.DeleteMsg(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if m, gone, err := streams.GetAt(t.Context(), js, "X", 2); err != nil || gone || m == nil || m.Sequence != 2 {
		t.Errorf("message 2 is %v, gone %v, error %v, want it", m, gone, err)
	}
	if _, gone, err := streams.GetAt(t.Context(), js, "X", 1); err != nil || !gone {
		t.Errorf("a message that was removed: gone %v, error %v", gone, err)
	}
	// A single server that does not have it has lost it.
	if _, gone, err := streams.GetAt(t.Context(), js, "X", 9); err != nil || !gone {
		t.Errorf("a message that one server never had: gone %v, error %v", gone, err)
	}
	if _, _, err := streams.GetAt(t.Context(), js, "Y", 1); err == nil {
		t.Error("a missing stream gives no error")
	}
}

// TestGetAt_OfALeaderThatIsBehindProvesNothing answers like one of three servers that lacks the
// last message.
func TestGetAt_OfALeaderThatIsBehindProvesNothing(t *testing.T) {
	nc := jetStream(t).Conn()
	last := uint64(4)
	answer := func(subject string, with any) {
		if _, err := nc.Subscribe(subject, func(m *nats.Msg) {
			data, err := json.Marshal(with)
			if err != nil {
				t.Error(err)
			}
			if err := m.Respond(data); err != nil {
				t.Error(err)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	answer("behind.API.STREAM.MSG.GET.X", map[string]any{"error": jetstream.APIError{Code: 404, ErrorCode: jetstream.JSErrCodeMessageNotFound}})
	answer("behind.API.STREAM.INFO.X", jetstream.StreamInfo{Config: jetstream.StreamConfig{Name: "X", Replicas: 3}, State: jetstream.StreamState{LastSeq: last}})
	js, err := jetstream.NewWithAPIPrefix(nc, "behind.API")
	if err != nil {
		t.Fatal(err)
	}
	if _, gone, err := streams.GetAt(t.Context(), js, "X", last+1); gone || !errors.Is(err, streams.ErrBehind) {
		t.Errorf("a message not yet reached: gone %v, error %v, want ErrBehind", gone, err)
	}
	if _, gone, err := streams.GetAt(t.Context(), js, "X", last); !gone || err != nil {
		t.Errorf("a message known to be removed: gone %v, error %v", gone, err)
	}
}
