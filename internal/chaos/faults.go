//go:build linux

package chaos

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/backoff"
	"github.com/rebound-mq/rebound/internal/chaos/machine"
	"github.com/rebound-mq/rebound/internal/chaos/proof"
	"github.com/rebound-mq/rebound/internal/deadletter"
)

// faults are all faults by name.
var faults = map[string]fault{
	"step-stream":   func(ctx context.Context, o *operator) { o.stepStream(ctx, "") },
	"step-consumer": stepConsumer,
	"step-meta":     stepMeta,
	"node-term": func(ctx context.Context, o *operator) {
		o.bounce(ctx, false, o.between(200*time.Millisecond, 3*time.Second))
	},
	"node-kill": func(ctx context.Context, o *operator) {
		o.bounce(ctx, true, o.between(200*time.Millisecond, 3*time.Second))
	},
	"late-follower": lateFollower,

	"instance-kill": func(ctx context.Context, o *operator) {
		o.replace(ctx, o.anInstance(), true, o.between(0, 2*time.Second))
	},
	"instance-term": func(ctx context.Context, o *operator) {
		o.replace(ctx, o.anInstance(), false, o.between(0, time.Second))
	},
	"instance-blink": func(ctx context.Context, o *operator) {
		o.freeze(ctx, o.between(200*time.Millisecond, 1800*time.Millisecond))
	},
	"instance-freeze": func(ctx context.Context, o *operator) { o.freeze(ctx, o.between(2500*time.Millisecond, 6*time.Second)) },
	"instance-frozen": func(ctx context.Context, o *operator) {
		o.freeze(ctx, events.DedupWindow+o.between(6*time.Second, 12*time.Second))
	},
	"rolling": rolling,

	"breaker-trip": func(ctx context.Context, o *operator) {
		o.breaker(ctx, "trip", o.aKey(), o.between(300*time.Millisecond, 4*time.Second))
	},
	"breaker-hold":  func(ctx context.Context, o *operator) { o.breaker(ctx, "hold", o.aKey(), 0) },
	"breaker-reset": func(ctx context.Context, o *operator) { o.breaker(ctx, "reset", o.aKey(), 0) },

	"wire-cut":   func(ctx context.Context, o *operator) { o.harm(ctx, "r", true) },
	"wire-slow":  func(ctx context.Context, o *operator) { o.harm(ctx, "r", false) },
	"route-cut":  func(ctx context.Context, o *operator) { o.harm(ctx, "n", true) },
	"route-slow": func(ctx context.Context, o *operator) { o.harm(ctx, "n", false) },
	"node-apart": nodeApart,

	"redis-flush":     redisFlush,
	"redis-restart":   redisRestart,
	"redis-halt":      redisHalt,
	"redis-read-only": redisReadOnly,

	"remove-consumer": removeConsumer,
	"remove-lanes":    func(ctx context.Context, o *operator) { o.removeBucket(ctx, events.Streams{}.LanesBucket()) },
	"remove-breakers": func(ctx context.Context, o *operator) { o.removeBucket(ctx, events.Streams{}.BreakersBucket()) },
	"remove-ledgers":  func(ctx context.Context, o *operator) { o.removeBucket(ctx, events.Streams{}.LedgersBucket()) },

	"disk-full":  diskFull,
	"clock-step": clockStep,

	"target-down": func(ctx context.Context, o *operator) { o.moody(ctx, "down", func(m *mood) { m.down = true }) },
	"target-dying": func(ctx context.Context, o *operator) {
		o.moody(ctx, "dying in the middle", func(m *mood) { m.silent = true })
	},
	"target-slow": func(ctx context.Context, o *operator) {
		o.moody(ctx, "slow", func(m *mood) { m.slow = 400 * time.Millisecond })
	},
	"target-absent": func(ctx context.Context, o *operator) { o.absent(ctx, o.between(500*time.Millisecond, 3*time.Second)) },
	"target-away":   func(ctx context.Context, o *operator) { o.absent(ctx, o.between(2*time.Second, 8*time.Second)) },
	"policy-apply":  policyApply,
	"replay":        replay,

	"pause":     pause,
	"pause-for": pauseFor,
	"resume":    resume,
}

// stepStream makes the leader of a random stream step down, in favour of preferred if given.
func (o *operator) stepStream(ctx context.Context, preferred string) {
	names := events.Streams{}
	all := []string{names.Waiting(), names.Waiting(), names.Intake(), names.Outcomes(), names.Dead(), "KV_" + names.LanesBucket()}
	if o.h.kind.Publish {
		all = append(all, names.Work())
	}
	o.step(ctx, "STREAM.LEADER.STEPDOWN."+all[o.rng.IntN(len(all))], preferred)
}

func (o *operator) step(ctx context.Context, what, preferred string) {
	body := ""
	if preferred != "" {
		body = fmt.Sprintf(`{"placement": {"preferred": %q}}`, preferred)
	}
	o.h.note("step down: %s %s", what, preferred)
	call, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	_, _ = o.nc.RequestWithContext(call, "$JS.API."+what, []byte(body)) // without a leader there is nothing to do
}

func stepConsumer(ctx context.Context, o *operator) {
	stream, consumer := o.aConsumer(ctx)
	if consumer != "" {
		o.step(ctx, "CONSUMER.LEADER.STEPDOWN."+stream+"."+consumer, "")
	}
}

// aConsumer chooses one of the service's consumers. It draws exactly once, so that the seed
// determines the rest of the history.
func (o *operator) aConsumer(ctx context.Context) (stream, consumer string) {
	names := events.Streams{}
	dice := o.rng.Uint64()
	stream = names.Waiting()
	if dice%4 == 0 {
		stream = names.Intake()
	}
	call, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	s, err := o.js.Stream(call, stream)
	if err != nil {
		return stream, ""
	}
	var all []string
	list := s.ConsumerNames(call)
	for name := range list.Name() {
		all = append(all, name)
	}
	if len(all) == 0 {
		return stream, ""
	}
	slices.Sort(all)
	return stream, all[dice/4%uint64(len(all))]
}

func stepMeta(ctx context.Context, o *operator) {
	o.h.note("step down: the meta leader")
	call, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	_, _ = o.sys.RequestWithContext(call, "$JS.API.META.LEADER.STEPDOWN", nil) // without a leader there is nothing to do
}

func (o *operator) aNode() *node          { return o.h.nodes[o.rng.IntN(len(o.h.nodes))] }
func (o *operator) anInstance() *instance { return o.h.instances[o.rng.IntN(len(o.h.instances))] }
func (o *operator) aKey() string {
	return events.Key(service, fmt.Sprintf("op%d", o.rng.IntN(o.h.kind.Keys)))
}

// bounce stops a node, keeps it down, restarts it and waits until the cluster is whole, so that
// two nodes are never down at once.
func (o *operator) bounce(ctx context.Context, kill bool, away time.Duration) {
	o.restart(ctx, o.aNode(), kill, away)
	o.whole(ctx)
}

func (o *operator) restart(ctx context.Context, n *node, kill bool, away time.Duration) {
	if kill {
		o.h.note("kill -9 of node %s, away for %s", n.name, away.Round(time.Millisecond))
		n.Kill()
	} else {
		o.h.note("SIGTERM to node %s, away for %s", n.name, away.Round(time.Millisecond))
		o.h.failed(n.Stop())
	}
	backoff.Sleep(ctx, away)
	o.h.failed(n.Start())
	o.h.note("node %s is started again", n.name)
}

// whole waits until every replica of every stream follows its leader.
func (o *operator) whole(ctx context.Context) {
	err := await(ctx, startWait, func(ctx context.Context) bool {
		for info := range o.streams(ctx) {
			if !replicated(info) {
				return false
			}
		}
		return true
	})
	if err != nil && ctx.Err() == nil {
		o.h.failed(fmt.Errorf("the cluster is not whole again: %w", err))
	}
}

// replicated reports whether a stream has a leader that all its replicas follow.
func replicated(info *jetstream.StreamInfo) bool {
	if info == nil || info.Cluster == nil || info.Cluster.Leader == "" {
		return false
	}
	return !slices.ContainsFunc(info.Cluster.Replicas, func(r *jetstream.PeerInfo) bool { return !r.Current || r.Offline })
}

// streams yields the information about each stream, nil for one that does not answer.
func (o *operator) streams(ctx context.Context) func(func(*jetstream.StreamInfo) bool) {
	return func(yield func(*jetstream.StreamInfo) bool) {
		names := events.Streams{}
		for _, name := range []string{names.Intake(), names.Waiting(), names.Outcomes(), names.Dead()} {
			var info *jetstream.StreamInfo
			if s, err := o.js.Stream(ctx, name); err == nil {
				info = s.CachedInfo()
			}
			if !yield(info) {
				return
			}
		}
	}
}

// lateFollower keeps a follower down until it is behind, and makes it leader as soon as it is
// back.
func lateFollower(ctx context.Context, o *operator) {
	away, kill := o.between(3*time.Second, 7*time.Second), o.rng.IntN(2) == 0
	n, stream := o.aNode(), events.Streams{}.Waiting()
	call, cancel := context.WithTimeout(ctx, 3*time.Second)
	leader, err := streamLeader(call, o.js, stream)
	cancel()
	if err != nil {
		return
	}
	if n.name == leader {
		n = o.h.nodes[(slices.Index(o.h.nodes, n)+1)%len(o.h.nodes)]
	}
	o.restart(ctx, n, kill, away)
	for range 20 {
		o.step(ctx, "STREAM.LEADER.STEPDOWN."+stream, n.name)
		call, cancel := context.WithTimeout(ctx, time.Second)
		leader, err := streamLeader(call, o.js, stream)
		cancel()
		if err == nil && leader == n.name {
			o.h.note("late follower %s leads", n.name)
			break
		}
		backoff.Sleep(ctx, 200*time.Millisecond)
	}
	o.whole(ctx)
}

// replace stops an instance and starts it again.
func (o *operator) replace(ctx context.Context, in *instance, kill bool, away time.Duration) {
	if kill {
		o.h.note("kill -9 of instance %s, away for %s", in.Name, away.Round(time.Millisecond))
		in.Kill()
	} else {
		o.h.note("SIGTERM to instance %s, away for %s", in.Name, away.Round(time.Millisecond))
		if err := in.Stop(); err != nil {
			o.h.exited(err.Error())
		}
	}
	backoff.Sleep(ctx, away)
	o.h.failed(in.Start())
	o.h.note("instance %s is started again", in.Name)
}

func (o *operator) freeze(ctx context.Context, d time.Duration) {
	in := o.anInstance()
	o.h.note("instance %s stands still for %s", in.Name, d.Round(time.Millisecond))
	in.Freeze()
	backoff.Sleep(ctx, d)
	in.Thaw()
	o.h.note("instance %s "+proof.GoesOn, in.Name)
}

// rolling replaces all instances, one at a time.
func rolling(ctx context.Context, o *operator) {
	for _, in := range o.h.instances {
		o.replace(ctx, in, false, 0)
		if err := await(ctx, startWait, in.ready); err != nil && ctx.Err() == nil {
			o.h.exited(fmt.Sprintf("instance %s is not ready %s after it was replaced", in.Name, startWait))
		}
	}
}

func (o *operator) breaker(ctx context.Context, act, key string, d time.Duration) {
	o.h.note("breaker %s of %s %s", act, key, d.Round(time.Millisecond))
	o.touched[key] = true
	request := map[string]any{"key": key, "note": "chaos"}
	if act == "trip" {
		request["forMs"] = d.Milliseconds()
	}
	if !o.ask(ctx, "rebound.breaker."+act, request) {
		o.h.note("breaker %s of %s was not done", act, key)
	}
}

// harm cuts or slows a random wire whose name begins with prefix.
func (o *operator) harm(ctx context.Context, prefix string, cut bool) {
	var of []*machine.Wire
	for _, w := range o.h.wires {
		if w.Name[:1] == prefix {
			of = append(of, w)
		}
	}
	w, d := of[o.rng.IntN(len(of))], o.between(300*time.Millisecond, 6*time.Second)
	delay := o.between(20*time.Millisecond, 400*time.Millisecond)
	if cut {
		o.h.note("wire %s cut for %s", w.Name, d.Round(time.Millisecond))
		o.h.failed(w.Cut())
	} else {
		o.h.note("wire %s slower by %s for %s", w.Name, delay.Round(time.Millisecond), d.Round(time.Millisecond))
		o.h.failed(w.Slow(delay))
	}
	backoff.Sleep(ctx, d)
	w.Mend()
	o.h.note("wire %s mended", w.Name)
}

// nodeApart cuts all wires between one node and the others.
func nodeApart(ctx context.Context, o *operator) {
	i, d := o.rng.IntN(len(o.h.nodes)), o.between(time.Second, 8*time.Second)
	o.h.note("node n%d is apart for %s", i+1, d.Round(time.Millisecond))
	var cut []*machine.Wire
	for ends, w := range o.h.routes {
		if ends[0] == i || ends[1] == i {
			o.h.failed(w.Cut())
			cut = append(cut, w)
		}
	}
	backoff.Sleep(ctx, d)
	for _, w := range cut {
		w.Mend()
	}
	o.h.note("node n%d is back", i+1)
	o.whole(ctx)
}

// moody changes the target's mood for a while.
func (o *operator) moody(ctx context.Context, what string, f func(m *mood)) {
	d := o.between(500*time.Millisecond, 2*time.Second)
	o.h.note("the target is %s for %s", what, d.Round(time.Millisecond))
	o.h.target.change(f)
	backoff.Sleep(ctx, d)
	o.h.target.change(func(m *mood) { *m = mood{} })
	o.h.note("the target is well")
}

// absent makes the target go away for d and come back.
func (o *operator) absent(ctx context.Context, d time.Duration) {
	o.h.note("the target is absent for %s", d.Round(time.Millisecond))
	o.h.failed(o.h.target.leave())
	backoff.Sleep(ctx, d)
	o.h.failed(o.h.target.listen())
	o.h.note("the target is back")
}

// policyApply applies the same policies again with a different comment.
func policyApply(ctx context.Context, o *operator) {
	o.h.note("policies applied")
	source := fmt.Sprintf("# %d\n%s", o.rng.Uint32(), o.h.kind.Policy)
	o.ask(ctx, "rebound.policy.apply", map[string]any{"source": source})
}

// replay replays up to three dead letters.
func replay(ctx context.Context, o *operator) {
	call, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	letters, n := deadletter.New(o.js, ""), 0
	for d, err := range letters.List(call, events.DeadLetterFilter{Limit: 3}) {
		if err != nil {
			break
		}
		if o.h.replay(call, letters, d) {
			n++
		}
	}
	o.h.note("%d dead letters replayed", n)
}

func removeConsumer(ctx context.Context, o *operator) {
	stream, consumer := o.aConsumer(ctx)
	if consumer == "" {
		return
	}
	o.h.note("consumer %s of %s removed", consumer, stream)
	call, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_ = o.js.DeleteConsumer(call, stream, consumer) // it may be gone already
}

func (o *operator) removeBucket(ctx context.Context, name string) {
	o.h.note("bucket %s removed", name)
	call, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_ = o.js.DeleteKeyValue(call, name) // it may be gone already
}
