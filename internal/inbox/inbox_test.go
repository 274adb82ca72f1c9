package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/rebound-mq/rebound/internal/inbox"
	"github.com/rebound-mq/rebound/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// longTimeout is longer than any test.
const longTimeout = time.Minute

func open(t *testing.T, nc *nats.Conn) *inbox.Inbox {
	t.Helper()
	i, stop, err := inbox.Open(nc)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return i
}

func TestInbox_EachRequestGetsItsReply(t *testing.T) {
	t.Parallel()
	nc := testkit.Connect(t, testkit.PlainServer(t, &natsd.Options{}).ClientURL())
	if _, err := nc.Subscribe("echo", func(m *nats.Msg) { _ = m.Respond(m.Data) }); err != nil {
		t.Fatal(err)
	}
	i := open(t, nc)
	var group sync.WaitGroup
	for n := range 200 {
		group.Go(func() {
			for round := range 5 {
				want := fmt.Sprint(n, " ", round)
				reply, err := i.Request(t.Context(), &nats.Msg{Subject: "echo", Data: []byte(want)}, longTimeout)
				if err != nil || string(reply.Data) != want {
					t.Errorf("the reply to %q is %v, %v", want, reply, err)
					return
				}
			}
		})
	}
	group.Wait()
}

func TestInbox_RequestEndsWithoutReply(t *testing.T) {
	t.Parallel()
	nc := testkit.Connect(t, testkit.PlainServer(t, &natsd.Options{}).ClientURL())
	heard := make(chan *nats.Msg, 4)
	if _, err := nc.ChanSubscribe("silent", heard); err != nil {
		t.Fatal(err)
	}
	i := open(t, nc)
	if _, err := i.Request(t.Context(), nats.NewMsg("nobody"), longTimeout); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("a request that nobody hears ends with %v, want %v", err, nats.ErrNoResponders)
	}
	if _, err := i.Request(t.Context(), nats.NewMsg("silent"), time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a request without a reply ends with %v, want %v", err, context.DeadlineExceeded)
	}
	late := <-heard
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-heard; cancel() }()
	if _, err := i.Request(ctx, nats.NewMsg("silent"), longTimeout); !errors.Is(err, context.Canceled) {
		t.Errorf("a request that is given up ends with %v, want %v", err, context.Canceled)
	}
	if _, err := i.Request(ctx, nats.NewMsg("silent"), longTimeout); !errors.Is(err, context.Canceled) || len(heard) > 0 {
		t.Errorf("a request that is given up before ends with %v after %d publishes, want %v and none", err, len(heard), context.Canceled)
	}
	// A late reply must not reach the request that uses the same memory.
	if err := late.Respond([]byte("late")); err != nil {
		t.Fatal(err)
	}
	go func() { _ = (<-heard).Respond([]byte("in time")) }()
	if reply, err := i.Request(t.Context(), nats.NewMsg("silent"), longTimeout); err != nil || string(reply.Data) != "in time" {
		t.Errorf("the reply is %v, %v, want the one to this request", reply, err)
	}
}

// TestInbox_ReplyThatCameWhileTheProcessStoodStillIsReceived stops this process until after the
// timeout.
func TestInbox_ReplyThatCameWhileTheProcessStoodStillIsReceived(t *testing.T) {
	nc := testkit.Connect(t, testkit.PlainServer(t, &natsd.Options{}).ClientURL())
	if _, err := nc.Subscribe("slow", func(m *nats.Msg) { time.AfterFunc(500*time.Millisecond, func() { _ = m.Respond([]byte("in time")) }) }); err != nil {
		t.Fatal(err)
	}
	i := open(t, nc)
	pid := strconv.Itoa(os.Getpid())
	stop := exec.CommandContext(t.Context(), "sh", "-c", "kill -STOP "+pid+"; sleep 3; kill -CONT "+pid)
	if err := stop.Start(); err != nil {
		t.Fatal(err)
	}
	reply, err := i.Request(t.Context(), nats.NewMsg("slow"), time.Second)
	if err != nil || string(reply.Data) != "in time" {
		t.Errorf("the reply is %v, %v, want the one that came before this process went on", reply, err)
	}
	if err := stop.Wait(); err != nil {
		t.Fatal(err)
	}
}

func TestInbox_DenialEndsTheRequestsToTheDeniedSubjectOnly(t *testing.T) {
	t.Parallel()
	server := testkit.PlainServer(t, &natsd.Options{Users: []*natsd.User{{
		Username: "u", Password: "p", Permissions: &natsd.Permissions{Publish: &natsd.SubjectPermission{Allow: []string{">"}, Deny: []string{"no.>"}}},
	}}})
	passedOn := make(chan error, 1)
	nc := testkit.Connect(t, server.ClientURL(), nats.UserInfo("u", "p"), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { passedOn <- err }))
	heard := make(chan *nats.Msg, 1)
	if _, err := nc.ChanSubscribe("yes", heard); err != nil {
		t.Fatal(err)
	}
	i, stop, err := inbox.Open(nc)
	if err != nil {
		t.Fatal(err)
	}
	allowed := make(chan error, 1)
	go func() {
		_, err := i.Request(t.Context(), nats.NewMsg("yes"), longTimeout)
		allowed <- err
	}()
	request := <-heard
	if _, err := i.Request(t.Context(), nats.NewMsg("no.café"), longTimeout); !errors.Is(err, nats.ErrPermissionViolation) {
		t.Errorf("a denied request ends with %v, want %v", err, nats.ErrPermissionViolation)
	}
	if err := request.Respond(nil); err != nil {
		t.Fatal(err)
	}
	if err := <-allowed; err != nil {
		t.Errorf("a request to another subject ends with %v", err)
	}
	// What no request waits for goes to the handler of the connection, and so does everything
	// once the inbox is closed.
	for range 2 {
		if err := nc.Publish("no.third", nil); err != nil {
			t.Fatal(err)
		}
		if err := <-passedOn; !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("passed on %v, want the violation", err)
		}
		stop()
	}
}
