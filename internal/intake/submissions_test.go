package intake_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/intake"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// once calls do without retrying.
type once struct{}

func (once) Persist(ctx context.Context, _ string, do func(context.Context) error) error {
	return do(ctx)
}

// open stores one submission for each of the services, in order.
func open(t *testing.T, services ...string) (*intake.Submissions, jetstream.JetStream) {
	t.Helper()
	js := testkit.JetStream(t, testkit.Connect(t, testkit.Server(t).ClientURL()))
	if err := streams.Ensure(t.Context(), js, streams.Configs(events.Streams{}, streams.Limits{})); err != nil {
		t.Fatal(err)
	}
	for _, service := range services {
		if _, err := js.Publish(t.Context(), (events.Subjects{}).Submit(service, "op"), nil); err != nil {
			t.Fatal(err)
		}
	}
	s, err := intake.OpenSubmissions(t.Context(), js, once{}, "")
	if err != nil {
		t.Fatal(err)
	}
	return s, js
}

func TestSubmissions_RemovesOnlyTheOneThatIsMeant(t *testing.T) {
	s, js := open(t, "mail", "billing", "mail")
	stream, err := js.Stream(t.Context(), events.Streams{}.Intake())
	if err != nil {
		t.Fatal(err)
	}
	m, err := stream.GetMsg(t.Context(), 3)
	if err != nil {
		t.Fatal(err)
	}
	for name, op := range map[string]*events.Operation{
		"another service": {Service: "billing", Operation: "op", Ahead: 3, Submitted: m.Time},
		"another time":    {Service: "mail", Operation: "op", Ahead: 3, Submitted: m.Time.Add(time.Second)},
		"no such message": {Service: "mail", Operation: "op", Ahead: 9, Submitted: m.Time},
	} {
		if err := s.Remove(t.Context(), op); err != nil && name != "no such message" {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := stream.GetMsg(t.Context(), 3); err != nil {
			t.Errorf("%s: the submission is gone: %v", name, err)
		}
	}
	if err := s.Remove(t.Context(), &events.Operation{Service: "mail", Operation: "op", Ahead: 3, Submitted: m.Time}); err != nil {
		t.Fatal(err)
	}
	most, err := s.Most(t.Context(), 1)
	if err != nil || len(most) != 1 || most[0].Service != "billing" || most[0].Submitted != 1 {
		t.Errorf("the most submissions are %+v, %v, want one of billing", most, err)
	}
}

func TestLimit_CountsWhatItAdmits(t *testing.T) {
	s, _ := open(t, "mail", "mail")
	limit := intake.NewLimit(3, s, slog.New(slog.DiscardHandler))
	if err := limit.Admit(t.Context(), "mail"); err != nil {
		t.Fatal(err)
	}
	err := limit.Admit(t.Context(), "mail")
	if !errors.As(err, new(*intake.TooManyError)) {
		t.Errorf("the fourth of three submissions gives %v, want a TooManyError", err)
	}
	if err := limit.Admit(t.Context(), "billing"); err != nil {
		t.Errorf("another service is refused: %v", err)
	}
}

func TestFits_LeavesBytesForTheState(t *testing.T) {
	op := &events.Operation{Service: "mail", Operation: "op"}
	if err := intake.Fits(op, nil, make([]byte, 16<<10), 64<<10); !errors.As(err, new(*events.RejectedError)) || !strings.Contains(err.Error(), "more than the 16384 allowed") {
		t.Errorf("a submission that leaves its header no bytes gives %v", err)
	}
	if err := intake.Fits(op, nil, make([]byte, 15<<10), 64<<10); err != nil {
		t.Errorf("a submission that fits gives %v", err)
	}
}
