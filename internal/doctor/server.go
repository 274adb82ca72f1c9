package doctor

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/internal/config"
	"github.com/rebound-mq/rebound/internal/natsconn"
	"github.com/rebound-mq/rebound/internal/session"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/internal/wording"
)

// skewFail is the difference of clocks that fails the check, because operations come due
// early or late by as much. More than [natsconn.MaxSkew] is a warning.
const skewFail = 5 * time.Second

// server checks the server that s is connected to.
func (d *Diagnosis) server(ctx context.Context, s *session.Session, c *config.Config) {
	instances, unheard := session.Health(ctx, s)
	if err := natsconn.CheckServer(ctx, s.JS); err != nil {
		d.add(Fail, "server", wording.Sentence(err), "upgrade or configure the NATS server")
		d.instances(instances, unheard)
		return
	}
	d.add(OK, "server", fmt.Sprintf("nats-server %s at %s, with JetStream", s.NC.ConnectedServerVersion(), s.URL()), "")
	found := d.streams(ctx, s)
	d.rivals(ctx, s)
	adopted, err := adopted(ctx, s)
	if err != nil {
		d.add(Warn, "adoption", wording.Sentence(err), "check the permissions below")
	}
	d.permissions(ctx, s, adopted, found)
	d.adoption(ctx, s, adopted)
	d.clock(ctx, s, found)
	d.replicas(ctx, s, c, found)
	d.service(ctx, s, instances)
	d.instances(instances, unheard)
}

// streams checks the streams and reports whether all exist.
func (d *Diagnosis) streams(ctx context.Context, s *session.Session) bool {
	states, err := streams.Verify(ctx, s.JS, streams.Configs(s.Streams, s.Limits()))
	if err != nil {
		d.add(Fail, "streams", wording.Sentence(err), "check the permissions below")
		return false
	}
	all := true
	for _, st := range states {
		check := "stream " + st.Name
		switch {
		case !st.Found:
			all = false
			d.add(Warn, check, "does not exist yet", "`rebound serve` makes it")
		case len(st.Problems) > 0:
			d.add(Fail, check, strings.Join(st.Problems, "; "), "remove or rename the stream, or choose another --prefix")
		case len(st.Differences) > 0:
			d.add(Warn, check, strings.Join(st.Differences, "; "), "set it as configured, or configure it as it is set; the service works with either")
		default:
			d.add(OK, check, fmt.Sprintf("%d messages, %d bytes", st.Messages, st.Bytes), "")
		}
	}
	return all
}

// rivals reports other streams that capture the subjects of ours. Without a stream of workers of
// our own, another one may capture its subjects.
func (d *Diagnosis) rivals(ctx context.Context, s *session.Session) {
	configs := streams.Configs(s.Streams, s.Limits())
	if _, err := s.JS.Stream(ctx, s.Streams.Work()); err == nil {
		configs = append(configs, streams.WorkConfig(s.Streams, s.Limits()))
	}
	for _, c := range configs {
		rivals, err := streams.Rivals(ctx, s.JS, c)
		if err != nil {
			d.add(Warn, "streams", wording.Sentence(err), "check the permissions below")
			return
		}
		for _, subject := range slices.Sorted(maps.Keys(rivals)) {
			for _, name := range rivals[subject] {
				d.add(Fail, "stream "+name, fmt.Sprintf("captures %s, which belongs to stream %s; what is published there is stored in each", subject, c.Name),
					"remove stream "+name+", or take the subjects from it")
			}
		}
	}
}

func (d *Diagnosis) clock(ctx context.Context, s *session.Session, found bool) {
	skew, err := natsconn.ClockSkew(ctx, s.NC.Conn)
	if found {
		// The leader's clock is the one that fires schedules.
		skew, err = natsconn.LeaderClockSkew(ctx, s.JS, s.Streams.Waiting())
	}
	if err != nil {
		d.add(Warn, "clock", wording.Sentence(err), "compare the clocks by hand")
		return
	}
	off := skew.Offset.Abs()
	says := fmt.Sprintf("the server's differs by %s, give or take %s", skew.Offset.Round(time.Microsecond), skew.Uncertainty.Round(time.Microsecond))
	const advice = "synchronise both clocks, for example with chrony: operations come due by the server's"
	switch {
	case off-skew.Uncertainty > skewFail:
		d.add(Fail, "clock", says, advice)
	case off-skew.Uncertainty > natsconn.MaxSkew:
		d.add(Warn, "clock", says, advice)
	default:
		d.add(OK, "clock", says, "")
	}
}

// durability reports what a power failure may cost. stream is nil if there is none yet.
func (d *Diagnosis) durability(c *config.Config, stream *jetstream.StreamInfo) {
	const check = "durability"
	switch {
	case !c.Embedded():
		found := "whether the server syncs each write cannot be seen from here"
		if stream != nil && stream.Config.Replicas >= session.ClusterReplicas {
			d.add(OK, check, fmt.Sprintf("%s, but %d servers have each message, so the loss of one costs nothing", found, stream.Config.Replicas), "")
			return
		}
		d.add(Warn, check, found, "look for `sync_interval: always` in the server's jetstream settings, or store on 3 servers: without either a loss of power may cost what was acknowledged in the last minutes")
	case c.SyncAlways:
		d.add(OK, check, "every write is synced to the disk before it is acknowledged", "")
	default:
		d.add(Warn, check, fmt.Sprintf("written data is synced to the disk every %s: a loss of power may cost what was acknowledged since, the end of a process costs nothing", c.SyncInterval),
			"set --sync-interval always if that is not enough; it slows submissions down")
	}
}

// replicas checks on how many servers the streams are stored; c are the settings of the
// service.
func (d *Diagnosis) replicas(ctx context.Context, s *session.Session, c *config.Config, found bool) {
	want := s.Limits().Replicas
	clustered := s.Clustered()
	if !found {
		d.durability(c, nil)
		d.add(OK, "replicas", fmt.Sprintf("each stream will be stored on %s", wording.Many(want, "server")), "")
		return
	}
	stream, err := s.JS.Stream(ctx, s.Streams.Waiting())
	if err != nil {
		d.add(Fail, "replicas", wording.Sentence(err), "")
		return
	}
	info := stream.CachedInfo()
	d.durability(c, info)
	have := max(info.Config.Replicas, 1)
	says := fmt.Sprintf("stream %s is stored on %s", info.Config.Name, wording.Many(have, "server"))
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
		d.add(Warn, "replicas", fmt.Sprintf("%s, %d of them behind or away", says, lagging), "look at the servers of the cluster")
	case clustered && have < session.ClusterReplicas:
		d.add(Warn, "replicas", says+" of a cluster", "set --replicas 3, so that the service outlives the loss of one")
	default:
		d.add(OK, "replicas", says, "")
	}
}
