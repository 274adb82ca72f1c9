package main

import (
	"bytes"
	"testing"

	"github.com/rebound-mq/rebound/client/examples/internal/rig"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func TestPool_DelaysFollowOneThatRunsDry(t *testing.T) {
	nc := rig.Start(t, "connection_pool: {baseDelay: 100ms}")
	reports, err := nc.SubscribeSync(events.Subjects{}.Health(service))
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.FlushWithContext(rig.Context(t)); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := run(t.Context(), nc.ConnectedUrl(), &out); err != nil {
		t.Fatal(err)
	}
	const want = `2 reports hold the pool
a checkout waits 2.0 times as long because of the pool
3 checkouts had a connection
`
	if got := out.String(); got != want {
		t.Errorf("it printed\n%swant\n%s", got, want)
	}

	m, err := reports.NextMsgWithContext(rig.Context(t))
	if err != nil {
		t.Fatal(err)
	}
	_, report, err := wire.DecodeHealth(events.Subjects{}, m)
	if err != nil {
		t.Fatal(err)
	}
	if *report.PoolUtilization != 100 || *report.ActiveConnections != 2 || *report.QueueLength < 1 {
		t.Errorf("the first report is %s, want a full pool with 2 connections in use and at least 1 caller who waits", m.Data)
	}
	outcome := rig.Outcomes(t, rig.Client(t, nc), 1)[0]
	if !outcome.Succeeded() || outcome.Service != service || outcome.Attempts < 2 {
		t.Errorf("the first outcome is %+v, want the success of a later attempt", outcome)
	}
}
