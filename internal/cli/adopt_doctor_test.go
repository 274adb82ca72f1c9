package cli

import (
	"strings"
	"testing"

	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/internal/doctor"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/internal/adoption"
	"github.com/rebound-mq/rebound/internal/testkit"
)

func TestDoctorOfAdoptedConsumers(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	c.orders(3)
	if _, told := c.findings(exitOK)["adoption"]; told {
		t.Error("the doctor tells of adoption when there is none")
	}
	c.service()
	c.ok("adopt", "--stream", "ORDERS", "--consumer", "worker")
	if f := c.findings(exitOK)["adoption"]; f.Status != doctor.OK || f.Found != "1 consumer adopted" {
		t.Errorf("%+v", f)
	}
	if err := c.js.DeleteStream(t.Context(), "ORDERS"); err != nil {
		t.Fatal(err)
	}
	if f := c.findings(exitOK)["adoption"]; f.Status != doctor.Warn || !strings.Contains(f.Found, "stream ORDERS: there is no such stream") {
		t.Errorf("without its stream: %+v", f)
	}
}

// TestThePermissionsThatTheDoctorAsksForAreEnough takes over from a consumer as a
// user who may do exactly what the doctor lists.
func TestThePermissionsThatTheDoctorAsksForAreEnough(t *testing.T) {
	t.Parallel()
	adopted := []adoption.Adoption{{Stream: "ORDERS", Consumer: "worker", Service: "orders", Operation: "process", Target: "t.x"}}
	admin := &natsd.User{Username: "admin", Password: "pass"}
	user := &natsd.User{Username: "rebound", Password: "pass", Permissions: &natsd.Permissions{}}
	user.Permissions.Publish, user.Permissions.Subscribe = needed(t, adopted)
	server := testkit.PlainServer(t, &natsd.Options{JetStream: true, StoreDir: t.TempDir(), Users: []*natsd.User{admin, user}})
	errs := make(chan error, 100)
	nc := testkit.Connect(t, server.ClientURL(), nats.UserInfo("rebound", "pass"), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		select {
		case errs <- err:
		default:
		}
	}))
	c := &cli{t: t, nc: nc, env: []string{"HOME=" + t.TempDir(), "REBOUND_NATS=" + server.ClientURL(), "REBOUND_USER=admin", "REBOUND_PASSWORD=pass"}}
	c.service()
	c.js = testkit.JetStream(t, testkit.Connect(t, server.ClientURL(), nats.UserInfo("admin", "pass")))
	c.orders(3)
	c.ok("adopt", "--stream", "ORDERS", "--consumer", "worker", "--service", "orders", "--operation", "process", "--target", "t.x")

	if _, err := c.js.Publish(t.Context(), "orders.new", []byte("x")); err != nil {
		t.Fatal(err)
	}
	consumer, err := c.js.Consumer(t.Context(), "ORDERS", "worker")
	if err != nil {
		t.Fatal(err)
	}
	m, err := consumer.Next()
	if err == nil {
		err = m.Term()
	}
	if err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, patience, "the message being parked", func() bool { return c.messages("RETRY") == 1 })
	if f := c.findings(exitOK)["adoption"]; f.Status != doctor.OK {
		t.Errorf("the doctor says %+v", f)
	}
	c.ok("adopt", "list")
	c.ok("adopt", "remove", "--stream", "ORDERS", "--consumer", "worker")
	select {
	case err := <-errs:
		t.Errorf("the server told the service's user: %v", err)
	default:
	}
}

// needed returns the permissions that the doctor asks for, with the target beside.
func needed(t *testing.T, adopted []adoption.Adoption) (publish, subscribe *natsd.SubjectPermission) {
	t.Helper()
	nc := testkit.Connect(t, testkit.Server(t).ClientURL())
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	need := handlers.Deployment{JetStream: js, Inbox: nats.InboxPrefix + ">", Answers: true, Adopted: adopted}.Permissions()
	subjects := func(needs []handlers.Permission) *natsd.SubjectPermission {
		p := &natsd.SubjectPermission{}
		for _, n := range needs {
			p.Allow = append(p.Allow, n.Subject)
		}
		return p
	}
	publish, subscribe = subjects(need.Publish), subjects(need.Subscribe)
	publish.Allow = append(publish.Allow, adopted[0].Target)
	return publish, subscribe
}
