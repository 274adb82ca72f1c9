package cli

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/internal/adoption"
	"github.com/rebound-mq/rebound/internal/doctor"
	"github.com/rebound-mq/rebound/internal/testkit"
)

// protocol is a server's log that records what clients publish and subscribe to, by
// connection, and what they are refused.
type protocol struct {
	mu                    sync.Mutex // guards the fields below
	published, subscribed map[uint64]map[string]bool
	refused               []string
}

var operation = regexp.MustCompile(`cid:(\d+).*<<- \[(PUB|HPUB|SUB) (\S+)`)

func (p *protocol) Tracef(format string, v ...any) {
	m := operation.FindStringSubmatch(fmt.Sprintf(format, v...))
	if m == nil {
		return
	}
	var cid uint64
	fmt.Sscan(m[1], &cid)
	p.mu.Lock()
	defer p.mu.Unlock()
	of := p.published
	if m[2] == "SUB" {
		of = p.subscribed
	}
	if of[cid] == nil {
		of[cid] = make(map[string]bool)
	}
	of[cid][m[3]] = true
}

func (p *protocol) Errorf(format string, v ...any) {
	if text := fmt.Sprintf(format, v...); strings.Contains(text, "Violation") {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.refused = append(p.refused, text)
	}
}

func (p *protocol) Noticef(string, ...any) {}
func (p *protocol) Warnf(string, ...any)   {}
func (p *protocol) Fatalf(string, ...any)  {}
func (p *protocol) Debugf(string, ...any)  {}

// unused returns the permissions whose subjects none of the connections used.
func (p *protocol) unused(of map[uint64]map[string]bool, connections map[uint64]bool, needs []handlers.Permission) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var unused []string
	for _, n := range needs {
		used := false
		for cid, subjects := range of {
			for subject := range subjects {
				used = used || connections[cid] && natsd.SubjectMatchesFilter(subject, n.Subject)
			}
		}
		if !used {
			unused = append(unused, n.Subject)
		}
	}
	return unused
}

// TestPermissions_AreEnough exercises the whole service as a user with exactly the listed
// permissions: first without any streams, then without permission to make them.
func TestPermissions_AreEnough(t *testing.T) {
	adopted := []adoption.Adoption{{Stream: "ORDERS", Consumer: "worker", Service: "orders", Operation: "process", Target: "t.process"}}
	js := testkit.JetStream(t, testkit.Connect(t, testkit.Server(t).ClientURL()))
	first := handlers.Deployment{JetStream: js, Inbox: nats.InboxPrefix + ">", Answers: true, Adopted: adopted}
	later := first
	later.StreamsExist = true
	server := testkit.PlainServer(t, &natsd.Options{JetStream: true, StoreDir: t.TempDir(), Users: []*natsd.User{
		{Username: "admin", Password: "pass"},
		{Username: "first", Password: "pass", Permissions: permissionsOf(first)},
		{Username: "later", Password: "pass", Permissions: permissionsOf(later)},
	}})
	p := &protocol{published: make(map[uint64]map[string]bool), subscribed: make(map[uint64]map[string]bool)}
	server.SetLogger(p, false, true)
	admin := testkit.Connect(t, server.ClientURL(), nats.UserInfo("admin", "pass"))
	c := &cli{
		t: t, js: testkit.JetStream(t, admin),
		env: []string{"HOME=" + t.TempDir(), "REBOUND_NATS=" + server.ClientURL(), "REBOUND_USER=admin", "REBOUND_PASSWORD=pass"},
	}
	c.orders(3)
	for _, run := range []struct {
		user string
		handlers.Deployment
	}{{"first", first}, {"later", later}} {
		t.Run(run.user, func(t *testing.T) {
			use := *c
			use.t, use.nc = t, testkit.Connect(t, server.ClientURL(), nats.UserInfo(run.user, "pass"))
			use.service()
			use.everything(admin)
			need := run.Permissions()
			connections := connectionsOf(t, server, run.user)
			for _, subject := range p.unused(p.published, connections, need.Publish) {
				if !slices.Contains(seldomUsed, subject) {
					t.Errorf("nothing is published to %s", subject)
				}
			}
			if got := p.unused(p.subscribed, connections, need.Subscribe); len(got) > 0 {
				t.Errorf("nothing subscribes to %q", got)
			}
		})
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.refused) > 0 {
		t.Errorf("the server refused %q", p.refused)
	}
}

// seldomUsed are the permissions that this test need not use: they need a flood, a crash,
// a second instance, a long time or remains of an earlier version.
var seldomUsed = []string{
	"$SRV.INFO.rebound",
	"$JS.API.STREAM.MSG.DELETE.RETRY", "$JS.API.STREAM.MSG.GET.RETRY_INTAKE", "$JS.API.STREAM.MSG.DELETE.RETRY_INTAKE",
	"$JS.API.DIRECT.GET.RETRY_OUTCOMES", "$JS.API.STREAM.MSG.GET.RETRY_OUTCOMES",
	"$JS.API.STREAM.INFO.RETRY_WORK", "$JS.API.STREAM.CREATE.RETRY_WORK", "$JS.API.STREAM.CREATE.RETRY_ADVISORIES",
	"$KV.RETRY_POLICIES.>", "$JS.API.DIRECT.GET.KV_RETRY_POLICIES.>",
	"$JS.API.DIRECT.GET.KV_RETRY_LANES.>", "$JS.API.CONSUMER.CREATE.KV_RETRY_LANES.>", "$JS.API.CONSUMER.DELETE.KV_RETRY_LANES.*",
	"$JS.API.STREAM.PURGE.KV_RETRY_LANES", "$JS.API.DIRECT.GET.KV_RETRY_PAUSES.>",
	"$JS.API.DIRECT.GET.KV_RETRY_LEDGERS.>", "$JS.API.CONSUMER.CREATE.KV_RETRY_LEDGERS.>", "$JS.API.CONSUMER.DELETE.KV_RETRY_LEDGERS.*",
	"$JS.API.STREAM.MSG.GET.KV_RETRY_LEDGERS", "$JS.API.STREAM.UPDATE.KV_RETRY_BREAKERS", "$JS.API.STREAM.UPDATE.KV_RETRY_LEDGERS",
	"$JS.API.STREAM.MSG.GET.KV_RETRY_TAKEN", "$JS.API.DIRECT.GET.KV_RETRY_TAKEN.>",
}

// permissionsOf returns the permissions of a user with the listed permissions who may
// also reach the targets.
func permissionsOf(d handlers.Deployment) *natsd.Permissions {
	allow := func(needs []handlers.Permission, more ...string) *natsd.SubjectPermission {
		for _, n := range needs {
			more = append(more, n.Subject)
		}
		return &natsd.SubjectPermission{Allow: more}
	}
	need := d.Permissions()
	return &natsd.Permissions{Publish: allow(need.Publish, "t.*"), Subscribe: allow(need.Subscribe)}
}

// connectionsOf returns the connections that a user has and had.
func connectionsOf(t *testing.T, server *natsd.Server, user string) map[uint64]bool {
	t.Helper()
	connz, err := server.Connz(&natsd.ConnzOptions{Username: true, State: natsd.ConnAll, Limit: 10_000})
	if err != nil {
		t.Fatal(err)
	}
	ids := make(map[uint64]bool)
	for _, c := range connz.Conns {
		if c.AuthorizedUser == user {
			ids[c.Cid] = true
		}
	}
	return ids
}

// everything exercises the whole service.
func (c *cli) everything(admin *nats.Conn) {
	c.t.Helper()
	patiently := func(what string, done func() bool) { c.t.Helper(); testkit.Eventually(c.t, patience, what, done) }
	if _, err := admin.Subscribe("t.well", reply); err != nil {
		c.t.Fatal(err)
	}
	var outcomes testkit.Buffer
	if _, err := admin.Subscribe(events.Subjects{}.Outcomes("", "", ""), func(m *nats.Msg) { _, _ = outcomes.Write(m.Data) }); err != nil {
		c.t.Fatal(err)
	}
	if err := admin.Flush(); err != nil {
		c.t.Fatal(err)
	}
	endings := func(id string) int { return strings.Count(outcomes.String(), `"id":"`+id) }
	ended := func(id string) func() bool { return func() bool { return endings(id) > 0 } }
	submit := func(args ...string) string {
		c.t.Helper()
		return strings.TrimSpace(c.ok(append([]string{"submit", "billing"}, args...)...))
	}

	// An operation succeeds, one dies, is replayed and discarded.
	patiently("a success", ended(submit("charge", "--target", "t.well", "--set", "baseDelay=10ms")))
	replayed, discarded := submit("refund", "--target", "t.well", "--error-code", "403"), submit("refund", "--error-code", "403")
	patiently("dead letters", func() bool { return c.messages("RETRY_DEAD") == 2 })
	c.request(admin, "dead.list", `{"service":"billing"}`)
	c.request(admin, "dead.show", fmt.Sprintf(`{"id":%q}`, replayed))
	c.request(admin, "dead.replay", fmt.Sprintf(`{"ids":[%q]}`, replayed))
	patiently("the replay ending", func() bool { return endings(replayed) == 2 })
	c.request(admin, "dead.discard", fmt.Sprintf(`{"ids":[%q]}`, discarded))
	patiently("no dead letter being left", func() bool { return c.messages("RETRY_DEAD") == 0 })

	// Policies are applied, with limits that instances share.
	c.ok("policy", "apply", policyFile(c.t, "billing: {maxConcurrentRetries: 3, enableCircuitBreaker: true}\n"))
	patiently("a success under limits", ended(submit("charge", "--target", "t.well", "--set", "baseDelay=10ms")))

	// A breaker holds operations and lets them go.
	c.ok("breaker", "hold", "billing:held", "--yes")
	held := submit("held", "--target", "t.well", "--set", "baseDelay=10ms")
	patiently("the operation being held", func() bool {
		return strings.Contains(c.ok("breaker", "show", "billing:held"), "held operations      1")
	})
	c.ok("breaker", "reset", "billing:held")
	patiently("the held operation ending", ended(held))

	// A worker takes from the stream of workers and reports.
	c.worker(admin, submit("print", "--delivery", "publish", "--set", "baseDelay=10ms"))

	// A consumer is adopted and gives a message up.
	c.ok("adopt", "--stream", "ORDERS", "--consumer", "worker", "--service", "orders", "--operation", "process", "--target", "t.process")
	parked := c.messages("RETRY")
	c.giveUp()
	patiently("the message being taken over", func() bool { return c.messages("RETRY") == parked+1 })
	if f := c.findings(exitOK)["adoption"]; f.Status != doctor.OK {
		c.t.Errorf("the doctor says %+v", f)
	}
	c.ok("pause", "billing")
	c.ok("resume", "billing")
	c.ok("adopt", "list")
	c.ok("adopt", "remove", "--stream", "ORDERS", "--consumer", "worker")
	c.ok("status")
}

// request sends a request to an endpoint of the service.
func (c *cli) request(nc *nats.Conn, endpoint, body string) {
	c.t.Helper()
	answer, err := nc.Request("rebound."+endpoint, []byte(body), patience)
	if err != nil {
		c.t.Fatal(err)
	}
	if text := answer.Header.Get("Nats-Service-Error"); text != "" {
		c.t.Fatalf("%s: %s", endpoint, text)
	}
}

// worker takes an operation from the stream of workers and reports a success.
func (c *cli) worker(nc *nats.Conn, id string) {
	c.t.Helper()
	var consumer jetstream.Consumer
	testkit.Eventually(c.t, patience, "the stream of the workers", func() bool {
		var err error
		consumer, err = c.js.CreateOrUpdateConsumer(c.t.Context(), "RETRY_WORK", jetstream.ConsumerConfig{Durable: "w", AckPolicy: jetstream.AckExplicitPolicy})
		return err == nil
	})
	m, err := consumer.Next(jetstream.FetchMaxWait(patience))
	if err != nil {
		c.t.Fatal(err)
	}
	_ = m.Ack()
	h := m.Headers()
	c.ok("report", "billing", "print", "success", "--id", id, "--attempt", h.Get(events.HeaderAttempt), "--retry-token", h.Get(events.HeaderToken))
}

// giveUp makes the worker of the stream ORDERS give a message up.
func (c *cli) giveUp() {
	c.t.Helper()
	if _, err := c.js.Publish(c.t.Context(), "orders.new", []byte("x")); err != nil {
		c.t.Fatal(err)
	}
	consumer, err := c.js.Consumer(c.t.Context(), "ORDERS", "worker")
	if err != nil {
		c.t.Fatal(err)
	}
	m, err := consumer.Next()
	if err == nil {
		err = m.Term()
	}
	if err != nil {
		c.t.Fatal(err)
	}
}
