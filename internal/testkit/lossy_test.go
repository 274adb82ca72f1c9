package testkit_test

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/internal/testkit"
)

func TestLossy_LosesAndDelaysWhatItIsToldToAndPassesTheRest(t *testing.T) {
	t.Parallel()
	p := testkit.Lossy(t, testkit.Server(t).Addr(), func(pub testkit.Publication) testkit.Fate {
		switch {
		case pub.Subject == "lost" && string(pub.Data) == "x\r\ny" && pub.Reply == "reply":
			return testkit.Lose
		case pub.Subject == "kept":
			return testkit.Keep
		}
		return testkit.Pass
	})
	nc := testkit.Connect(t, p.URL())
	sub, err := nc.SubscribeSync(">")
	if err != nil {
		t.Fatal(err)
	}
	publish := func(m *nats.Msg) {
		t.Helper()
		if err := nc.PublishMsg(m); err != nil {
			t.Fatal(err)
		}
	}
	next := func() *nats.Msg {
		t.Helper()
		for {
			m, err := sub.NextMsg(10 * time.Second)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(m.Subject, "$") {
				return m
			}
		}
	}
	header := nats.Header{"A": {"b"}}
	publish(&nats.Msg{Subject: "lost", Reply: "reply", Data: []byte("x\r\ny")})
	publish(&nats.Msg{Subject: "lost", Reply: "reply", Header: header, Data: []byte("x\r\ny")})
	publish(&nats.Msg{Subject: "kept", Data: []byte("1")})
	publish(&nats.Msg{Subject: "kept", Header: header})
	publish(&nats.Msg{Subject: "lost", Data: []byte("x\r\ny")})
	publish(&nats.Msg{Subject: "passed", Header: header, Data: []byte(strings.Repeat("z\r\n", 100_000))})
	if m := next(); m.Subject != "lost" || m.Reply != "" || string(m.Data) != "x\r\ny" {
		t.Errorf("the first that passes is %q on %s, want that without a reply subject", m.Data, m.Subject)
	}
	if m := next(); m.Subject != "passed" || m.Header.Get("A") != "b" || len(m.Data) != 300_000 {
		t.Errorf("the second that passes is %d bytes on %s with %v, want all of it", len(m.Data), m.Subject, m.Header)
	}
	if p.Lost() != 2 || p.Kept() != 2 {
		t.Errorf("%d are lost and %d kept, want 2 each", p.Lost(), p.Kept())
	}
	p.Release()
	if m := next(); m.Subject != "kept" || string(m.Data) != "1" {
		t.Errorf("the first released is %q on %s", m.Data, m.Subject)
	}
	if m := next(); m.Subject != "kept" || m.Header.Get("A") != "b" {
		t.Errorf("the second released is on %s with %v", m.Subject, m.Header)
	}
	if p.Kept() != 0 {
		t.Errorf("%d are still kept, want none", p.Kept())
	}
}
