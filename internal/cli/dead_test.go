package cli

import (
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
)

// reply answers a request with success.
func reply(m *nats.Msg) { _ = m.Respond(nil) }

// consumers returns how many consumers a stream has.
func (c *cli) consumers(stream string) int {
	c.t.Helper()
	s, err := c.js.Stream(c.t.Context(), stream)
	if err != nil {
		c.t.Fatal(err)
	}
	return s.CachedInfo().State.Consumers
}

// bury stores dead letters of service:operation and returns their ids.
func (c *cli) bury(n int, service, operation string, change ...func(*events.DeadLetter)) []string {
	c.t.Helper()
	js, err := jetstream.New(c.nc, jetstream.WithPublishAsyncMaxPending(n+1))
	if err != nil {
		c.t.Fatal(err)
	}
	ids := make([]string, n)
	for i := range n {
		d := deadLetter(fmt.Sprintf("%d", i), service, operation)
		for _, f := range change {
			f(d)
		}
		m, err := wire.EncodeDeadLetter(events.Subjects{}, d)
		if err != nil {
			c.t.Fatal(err)
		}
		if _, err := js.PublishMsgAsync(m); err != nil {
			c.t.Fatal(err)
		}
		ids[i] = d.ID
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-time.After(2 * patience):
		c.t.Fatal("the dead letters are not acknowledged")
	}
	return ids
}

func deadLetter(eventID, service, operation string) *events.DeadLetter {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	op := &events.Operation{
		ID: events.OperationID("/test", eventID, service, operation), EventID: eventID, Source: "/test",
		Type: events.TypeFailed, Service: service, Operation: operation, Delivery: events.Request, Attempt: 2,
		Target: "ok.charge", Account: "acme", FirstFailure: at, Submitted: at, Deadline: at.Add(time.Hour),
		Overrides: map[string]string{"maxattempts": "2"},
	}
	op.Record(events.Attempt{Number: 1, At: at, DurationMs: 12.5, Code: "503", Error: "away", Class: "retryable", Rule: "http_5xx", DelayMs: 1500, Strategy: "exponential"})
	op.Record(events.Attempt{Number: 2, At: at.Add(2 * time.Second), DurationMs: 3000, Code: "timeout", Error: "no reply", Class: "retryable", Rule: "timeout", Repeated: true})
	return &events.DeadLetter{
		ID: op.ID, Service: service, Operation: operation, Reason: events.ReasonExhausted, Detail: "all 2 attempts were made",
		DiedAt: at.Add(5 * time.Second), SubmittedTo: "retry.submit." + service + "." + operation, State: op,
		Header: nats.Header{"X-Tenant": {"t1"}}, Data: []byte(`{"n":` + eventID + `}`),
	}
}
