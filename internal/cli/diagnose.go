package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/internal/config"
	"github.com/rebound-mq/rebound/internal/natsconn"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/schemas"
)

// A clock that differs by more than these makes operations come due early or
// late by as much.
const (
	skewWarn = 100 * time.Millisecond
	skewFail = 5 * time.Second
)

// diagnose makes every check that the ones before it allow.
func (a *app) diagnose(ctx context.Context, c *config.Config) *diagnosis {
	d := &diagnosis{File: c.File}
	for _, v := range c.Values() {
		d.Settings = append(d.Settings, diagnosisOption{v.Key, v.Value, v.Source})
	}
	d.configuration(c)
	d.redis(ctx, c, a.logger(c))
	s, err := connect(ctx, doctorConfig(c), "rebound doctor", a.logger(c))
	if err != nil {
		d.unreachable(ctx, c, err)
	} else {
		defer s.nc.Close()
		d.server(ctx, s, c)
	}
	d.OK = true
	for _, f := range d.Findings {
		d.OK = d.OK && f.Status != checkFail
	}
	return d
}

// doctorConfig makes the doctor look at the embedded server where it listens.
func doctorConfig(c *config.Config) *config.Config {
	if !c.Embedded() {
		return c
	}
	host, port := c.ListenHostPort()
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	url, err := config.ParseURL("nats://" + net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return c
	}
	own := *c
	own.NATS = []config.URL{url}
	return &own
}

func (d *diagnosis) configuration(c *config.Config) {
	switch err := c.CheckServe(); {
	case err != nil:
		d.add(checkFail, "settings", oneSentence(err), "change or remove that setting")
	case len(c.Warnings) > 0:
		d.add(checkWarn, "settings", strings.Join(c.Warnings, "; "), "remove what has no effect")
	default:
		d.add(checkOK, "settings", orNone("read from "+c.File, c.File, "no configuration file"), "")
	}
	if _, err := loadPolicies(c); err != nil {
		d.add(checkFail, "policy file", oneSentence(err), "correct the policy file")
	} else {
		d.add(checkOK, "policy file", orNone(c.Policies, c.Policies, "none"), "")
	}
}

// unreachable says what can be said without a server. That the embedded one is
// not running is no fault.
func (d *diagnosis) unreachable(ctx context.Context, c *config.Config, err error) {
	if !c.Embedded() || !errors.Is(err, nats.ErrNoServers) {
		d.add(checkFail, "connection", oneSentence(err), "check address, credentials and TLS settings")
		return
	}
	d.add(checkWarn, "connection", "the embedded server is not running at "+c.Listen, "start it with `rebound serve` and run the doctor again to check the rest")
	d.durability(c, nil)
	d.storeDir(c.StoreDir)
	for what, addr := range map[string]string{"listen": c.Listen, "http": c.HTTP} {
		if addr != "" {
			d.port(ctx, what, addr)
		}
	}
}

func (d *diagnosis) storeDir(dir string) {
	if dir == "" {
		return
	}
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		d.add(checkOK, "store directory", dir+" will be made", "")
		return
	case err == nil && !info.IsDir():
		err = errors.New("it is no directory")
	case err == nil:
		var probe *os.File
		if probe, err = os.CreateTemp(dir, ".writable-*"); err == nil {
			err = errors.Join(probe.Close(), os.Remove(probe.Name()))
		}
	}
	if err != nil {
		d.add(checkFail, "store directory", fmt.Sprintf("%s cannot be written: %v", dir, err), "choose another with --store-dir")
		return
	}
	d.add(checkOK, "store directory", dir, "")
}

func (d *diagnosis) port(ctx context.Context, what, addr string) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		d.add(checkFail, what, oneSentence(err), "choose another address with --"+what)
		return
	}
	_ = l.Close()
	d.add(checkOK, what, addr+" is free", "")
}

// server checks the server that s is connected to.
func (d *diagnosis) server(ctx context.Context, s *session, c *config.Config) {
	if err := natsconn.CheckServer(ctx, s.js); err != nil {
		d.add(checkFail, "server", oneSentence(err), "upgrade or configure the NATS server")
		d.instances(ctx, s)
		return
	}
	d.add(checkOK, "server", fmt.Sprintf("nats-server %s at %s, with JetStream", s.nc.ConnectedServerVersion(), s.url()), "")
	found := d.streams(ctx, s)
	adopted, err := s.adopted(ctx)
	if err != nil {
		d.add(checkWarn, "adoption", oneSentence(err), "check the permissions below")
	}
	d.permissions(ctx, s, adopted, found)
	d.adoption(ctx, s, adopted)
	d.clock(ctx, s, found)
	d.replicas(ctx, s, c, found)
	d.service(ctx, s)
	d.instances(ctx, s)
}

// streams checks the streams and reports whether all exist.
func (d *diagnosis) streams(ctx context.Context, s *session) bool {
	states, err := streams.Verify(ctx, s.js, streams.Configs(s.streams, limits(s)))
	if err != nil {
		d.add(checkFail, "streams", oneSentence(err), "check the permissions below")
		return false
	}
	all := true
	for _, st := range states {
		check := "stream " + st.Name
		switch {
		case !st.Found:
			all = false
			d.add(checkWarn, check, "does not exist yet", "`rebound serve` makes it")
		case len(st.Problems) > 0:
			d.add(checkFail, check, strings.Join(st.Problems, "; "), "remove or rename the stream, or choose another --prefix")
		case len(st.Differences) > 0:
			d.add(checkWarn, check, strings.Join(st.Differences, "; "), "set it as configured, or configure it as it is set; the service works with either")
		default:
			d.add(checkOK, check, fmt.Sprintf("%d messages, %d bytes", st.Messages, st.Bytes), "")
		}
	}
	return all
}

func (d *diagnosis) clock(ctx context.Context, s *session, found bool) {
	skew, err := natsconn.ClockSkew(ctx, s.nc.Conn)
	if found {
		// The leader's clock is the one that fires schedules.
		skew, err = natsconn.LeaderClockSkew(ctx, s.js, s.streams.Waiting())
	}
	if err != nil {
		d.add(checkWarn, "clock", oneSentence(err), "compare the clocks by hand")
		return
	}
	off := skew.Offset.Abs()
	says := fmt.Sprintf("the server's differs by %s, give or take %s", skew.Offset.Round(time.Microsecond), skew.Uncertainty.Round(time.Microsecond))
	const advice = "synchronise both clocks, for example with chrony: operations come due by the server's"
	switch {
	case off-skew.Uncertainty > skewFail:
		d.add(checkFail, "clock", says, advice)
	case off-skew.Uncertainty > skewWarn:
		d.add(checkWarn, "clock", says, advice)
	default:
		d.add(checkOK, "clock", says, "")
	}
}

// durability says what a loss of power may cost. stream is nil when there is
// none yet.
func (d *diagnosis) durability(c *config.Config, stream *jetstream.StreamInfo) {
	const check = "durability"
	switch {
	case !c.Embedded():
		found := "whether the server syncs each write cannot be seen from here"
		if stream != nil && stream.Config.Replicas >= clusterReplicas {
			d.add(checkOK, check, fmt.Sprintf("%s, but %d servers have each message, so the loss of one costs nothing", found, stream.Config.Replicas), "")
			return
		}
		d.add(checkWarn, check, found, "look for `sync_interval: always` in the server's jetstream settings, or store on 3 servers: without either a loss of power may cost what was acknowledged in the last minutes")
	case c.SyncAlways:
		d.add(checkOK, check, "every write is synced to the disk before it is acknowledged", "")
	default:
		d.add(checkWarn, check, fmt.Sprintf("written data is synced to the disk every %s: a loss of power may cost what was acknowledged since, the end of a process costs nothing", c.SyncInterval),
			"set --sync-interval always if that is not enough; it slows submissions down")
	}
}

// replicas checks what holds of the stored streams; c are the settings of the
// service.
func (d *diagnosis) replicas(ctx context.Context, s *session, c *config.Config, found bool) {
	want := limits(s).Replicas
	clustered := s.nc.ConnectedClusterName() != ""
	if !found {
		d.durability(c, nil)
		d.add(checkOK, "replicas", fmt.Sprintf("each stream will be stored on %s", many(want, "server")), "")
		return
	}
	stream, err := s.js.Stream(ctx, s.streams.Waiting())
	if err != nil {
		d.add(checkFail, "replicas", oneSentence(err), "")
		return
	}
	info := stream.CachedInfo()
	d.durability(c, info)
	have := max(info.Config.Replicas, 1)
	says := fmt.Sprintf("stream %s is stored on %s", info.Config.Name, many(have, "server"))
	lagging := 0
	if info.Cluster != nil {
		for _, r := range info.Cluster.Replicas {
			if !r.Current || r.Offline {
				lagging++
			}
		}
	}
	switch {
	case lagging > 0:
		d.add(checkWarn, "replicas", fmt.Sprintf("%s, %d of them behind or away", says, lagging), "look at the servers of the cluster")
	case clustered && have < clusterReplicas:
		d.add(checkWarn, "replicas", says+" of a cluster", "set --replicas 3, so that the service outlives the loss of one")
	default:
		d.add(checkOK, "replicas", says, "")
	}
}

// instances asks every instance how it is.
func (d *diagnosis) instances(ctx context.Context, s *session) {
	instances, err := s.health(ctx)
	if err != nil {
		d.add(checkFail, "instances", oneSentence(err), "look at the log of the service")
	}
	for _, i := range instances {
		check := "instance " + i.Instance
		if i.NotReady != "" {
			d.add(checkFail, check, "not ready: "+i.NotReady, "what is waiting goes on by itself when this is over")
		}
		for _, w := range i.Warnings {
			d.add(checkWarn, check, w, "the service works, and not as it should")
		}
	}
}

func (d *diagnosis) service(ctx context.Context, s *session) {
	var status schemas.Status
	switch err := s.ask(ctx, handlers.ServiceName+".status", &status); {
	case errors.Is(err, nats.ErrNoResponders):
		d.add(checkWarn, "service", "no instance answers", "start one with `rebound serve`")
	case err != nil:
		d.add(checkFail, "service", oneSentence(err), "look at the log of the service")
	default:
		d.add(checkOK, "service", fmt.Sprintf("instance %s, version %s, since %s", status.Instance, status.Version, moment(status.Started)), "")
		d.policiesInForce(status.Policies)
		d.submitted(&status)
	}
}

// manySubmitted is how many submissions of one service may wait before that is worth
// a warning.
const manySubmitted = 10_000

// submitted checks whether a service floods the intake.
func (d *diagnosis) submitted(status *schemas.Status) {
	const check = "submissions"
	if len(status.Waiting) == 0 {
		d.add(checkOK, check, "none wait to be taken in", "")
		return
	}
	most := status.Waiting[0]
	says := fmt.Sprintf("%d wait to be taken in, %d of them of service %s", status.Submitted, most.Submitted, most.Service)
	switch {
	case status.Limit > 0 && most.Submitted >= status.Limit:
		d.add(checkWarn, check, fmt.Sprintf("%s, which may have %d; more are refused", says, status.Limit), "find out why it submits so many, or raise --max-submitted")
	case most.Submitted >= manySubmitted:
		d.add(checkWarn, check, says, "the others go ahead of them; --max-submitted bounds what one service may have waiting")
	default:
		d.add(checkOK, check, says, "")
	}
}

func (d *diagnosis) policiesInForce(p schemas.PolicyState) {
	const check = "policies in force"
	if p.Refused != nil {
		d.add(checkFail, check, fmt.Sprintf("%s; revision %d was refused: %s", p.Name, p.Refused.Revision, oneSentence(errors.New(p.Refused.Problem))),
			"correct the file and apply it, or go back with `rebound policy rollback`")
		return
	}
	d.add(checkOK, check, p.Name, "")
}

func orNone(text, given, none string) string {
	if given == "" {
		return none
	}
	return text
}
