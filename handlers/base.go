package handlers

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/health"
	"github.com/rebound-mq/rebound/internal/deadletter"
	"github.com/rebound-mq/rebound/internal/inbox"
	"github.com/rebound-mq/rebound/internal/lifecycle"
	"github.com/rebound-mq/rebound/internal/natsconn"
	"github.com/rebound-mq/rebound/internal/notify"
	"github.com/rebound-mq/rebound/internal/opstore"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/internal/telemetry"
)

// base is what every part of an instance uses.
type base struct {
	links
	config   Config
	id       string
	started  time.Time
	log      *slog.Logger
	subjects events.Subjects
	streams  events.Streams
	life     *lifecycle.Lifecycle
	// waiter waits out, at the start, failures that pass by themselves.
	waiter *natsconn.Waiter
	clock  *natsconn.Clock
	leader *natsconn.StreamLeader // of the waiting operations
	// elections knows since when that server leads, and storage whether the streams
	// accept writes.
	elections *opstore.Elections
	storage   *opstore.Storage
	missing   notify.Signal // set when a stream or a consumer may be missing
	metrics   *telemetry.Metrics
	registry  *health.Registry
	letters   *deadletter.Letters
}

// links are the connections of an instance.
type links struct {
	nc *nats.Conn
	js jetstream.JetStream
	// inbox makes the requests on nc, and link tells whether that was up.
	inbox *inbox.Inbox
	link  *natsconn.Link
	// reading and sharing are on connections of their own. Reading or counting
	// 100,000 messages takes a server up to a tenth of a second, during which targets
	// would seem slow on the same connection. And shared breakers and limits must be
	// at hand however much the instance has to store.
	reading jetstream.JetStream
	sharing jetstream.JetStream
	// ahead is on a connection of its own too: submissions that are taken in before
	// their turn must not queue behind the others.
	ahead jetstream.JetStream
	// placing publishes on the connection of ahead.
	placing inbox.Publisher
}

// connect makes the connections besides nc; life closes them.
func connect(ctx context.Context, nc *nats.Conn, config Config, waiter *natsconn.Waiter, life *lifecycle.Lifecycle) (links, error) {
	l := links{nc: nc, js: config.JetStream, link: natsconn.NewLink(nc)}
	if l.js == nil {
		var err error
		if l.js, err = jetstream.New(nc); err != nil {
			return links{}, fmt.Errorf("opening JetStream: %w", err)
		}
	}
	for _, to := range []struct {
		js      *jetstream.JetStream
		purpose string
	}{{&l.reading, "reading"}, {&l.sharing, "sharing"}, {&l.ahead, "intake"}} {
		js, err := waiter.Dedicated(ctx, l.js, to.purpose)
		if err != nil {
			return links{}, err
		}
		life.Cleanup(js.Conn().Close)
		*to.js = js
	}
	for _, to := range []struct {
		inbox **inbox.Inbox
		nc    *nats.Conn
	}{{&l.inbox, nc}, {&l.placing.Inbox, l.ahead.Conn()}} {
		opened, stop, err := inbox.Open(to.nc)
		if err != nil {
			return links{}, err
		}
		life.Cleanup(stop)
		*to.inbox = opened
	}
	return l, nil
}

// newBase connects, makes or verifies the streams, and measures the server's clock.
func newBase(ctx context.Context, nc *nats.Conn, config Config, life *lifecycle.Lifecycle) (*base, error) {
	waiter := natsconn.NewWaiter(nc, config.Waiting, config.Logger)
	l, err := connect(ctx, nc, config, waiter, life)
	if err != nil {
		return nil, err
	}
	id := nuid.Next()
	b := &base{
		links: l, config: config, id: id, started: time.Now(), log: config.Logger.With("instance", id),
		subjects: events.Subjects{Prefix: config.Prefix}, streams: events.Streams{Prefix: config.Prefix},
		life: life, waiter: waiter, clock: natsconn.NewClock(config.Now), missing: notify.NewSignal(),
		registry: health.NewRegistry(), letters: deadletter.New(l.reading, config.Prefix),
	}
	b.storage = opstore.NewStorage(l.js, b.missing.Set)
	b.elections = opstore.NewElections(b.askLeader, b.clock.Now, l.link.Reconnects)
	b.leader = natsconn.NewStreamLeader(l.js, b.streams.Waiting(), b.clock, b.elections.Heard, b.log)
	if b.metrics, err = telemetry.NewMetrics(id, config.Version); err != nil {
		return nil, fmt.Errorf("making the metrics: %w", err)
	}
	for _, c := range streams.Configs(b.streams, config.Limits) {
		err := waiter.Await(ctx, "stream "+c.Name, func(ctx context.Context) error {
			return streams.Ensure(ctx, b.js, []jetstream.StreamConfig{c})
		})
		if err != nil {
			return nil, err
		}
	}
	if err := waiter.Await(ctx, "the time of the server", b.leader.Measure); err != nil {
		return nil, err
	}
	return b, nil
}

// created returns when a stream was made. The answer of the leader of the waiting
// operations also measures the clock.
func (b *base) created(ctx context.Context, name string) (time.Time, error) {
	if name == b.streams.Waiting() {
		info, err := b.leader.Ask(ctx)
		if err != nil {
			return time.Time{}, err
		}
		return info.Created, nil
	}
	stream, err := b.js.Stream(ctx, name)
	if err != nil {
		return time.Time{}, err
	}
	return stream.CachedInfo().Created, nil
}

// askLeader asks the leader of the waiting operations on the connection for reading.
func (b *base) askLeader(ctx context.Context) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, streams.CallTimeout)
	defer cancel()
	stream, err := b.reading.Stream(ctx, b.streams.Waiting())
	if err != nil {
		return nil, fmt.Errorf("asking the leader of stream %s: %w", b.streams.Waiting(), err)
	}
	return stream.CachedInfo(), nil
}
