package simulator

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// Finding is what happens to a user's operations in one situation, under the built-in default
// policy.
type Finding struct {
	Situation string `json:"situation"`
	// Must says what must happen and Happened what happened, each figure with the worst of the
	// seeds for it.
	Must     []string `json:"must"`
	Happened []string `json:"happened"`
	OK       bool     `json:"ok"`
}

// Defaults plays every situation in which the defaults must do what an expert would have
// configured, once with each seed. It returns the error of ctx.
func Defaults(ctx context.Context, seeds []uint64) ([]Finding, error) {
	var findings []Finding
	for _, s := range situations() {
		figures, err := s.playAll(ctx, seeds)
		if err != nil {
			return nil, fmt.Errorf("simulating %q: %w", s.name, err)
		}
		f := Finding{Situation: s.name, Must: s.must, OK: true}
		for _, w := range figures {
			f.Happened = append(f.Happened, w.String())
			f.OK = f.OK && w.ok()
		}
		findings = append(findings, f)
	}
	return findings, nil
}

// situation is a row of the table of defaults.
type situation struct {
	name string
	must []string
	play func(ctx context.Context, seed uint64) ([]figure, error)
}

// playAll plays the situation with each seed, as many at once as there are processors, and
// returns the worst value of each figure.
func (s situation) playAll(ctx context.Context, seeds []uint64) (worst []figure, err error) {
	all := make([][]figure, len(seeds))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, seed := range seeds {
		group.Go(func() (err error) {
			all[i], err = s.play(ctx, seed)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	for _, figures := range all {
		worst = worse(worst, figures)
	}
	return worst, nil
}

// figure is a measured value with the limit that it must keep.
type figure struct {
	format string // of the value
	value  any    // int, float64 or time.Duration
	limit  float64
	least  bool // the limit is the least value, not the largest
}

// most returns a figure that may be as large as limit, and least one that must be at least
// limit.
func most[V int | float64 | time.Duration](format string, value, limit V) figure {
	return figure{format: format, value: value, limit: float64(limit)}
}

func least[V int | float64 | time.Duration](format string, value, limit V) figure {
	return figure{format: format, value: value, limit: float64(limit), least: true}
}

func (f figure) number() float64 {
	switch v := f.value.(type) {
	case int:
		return float64(v)
	case time.Duration:
		return float64(v)
	case float64:
		return v
	}
	return 0
}

func (f figure) ok() bool {
	if f.least {
		return f.number() >= f.limit
	}
	return f.number() <= f.limit
}

func (f figure) String() string {
	value := f.value
	if d, ok := value.(time.Duration); ok {
		value = d.Round(max(time.Millisecond, d.Abs().Truncate(time.Second)/100))
	}
	text := fmt.Sprintf(f.format, value)
	if !f.ok() {
		text += ", which is too " + map[bool]string{true: "little", false: "much"}[f.least]
	}
	return text
}

// worse returns the worse of two values of each figure.
func worse(a, b []figure) []figure {
	if a == nil {
		return b
	}
	for i := range a {
		if (b[i].number() > a[i].number()) != a[i].least {
			a[i] = b[i]
		}
	}
	return a
}

// inHand is how many due operations an instance has in hand by default.
const inHand = 8192

// situations returns the rows of the table.
func situations() []situation {
	return []situation{
		{"a target restarts, away for 30 s", []string{
			"nothing is dead-lettered", "no attempt is burnt on nobody", "delivered within 2 s of its return",
		}, restart},
		{"a target fails every call for 10 minutes, 10 operations a second", []string{
			"the breaker opens within 10 failures", "fewer than 100 attempts are wasted", "everything is delivered after it heals",
			"at a pace that the target stands",
		}, longOutage},
		{"a target fails half of all calls at random for 10 minutes", []string{
			"work goes on", "everything is delivered after it heals",
		}, halfFails},
		{"one service is dead, twenty are well", []string{"the twenty do not notice: 50 ms at most"}, oneIsDead},
		{"one target hangs until the timeout, 20,000 operations due", []string{"the other keys do not notice: 500 ms at most"}, oneHangs},
		{"the host is busy with something else", []string{"redeliveries go on", "nothing is held for it"}, busyHost},
		{"a poisoned operation type fails for ever at 1 % of traffic", []string{"it alone is slowed"}, poisonedType},
		{"every operation fails its first redelivery, 500 at once", []string{
			"probes are operations that were tried before", "several go with each",
		}, firstFails},
		{"everything fails (shared database down)", []string{
			"a trickle to each key finds out when it is over", "full pace within seconds of that",
		}, everythingFails},
	}
}

// phase returns how much longer an outage is with a seed, so that it ends at any moment of a
// breaker's timeout.
func phase(seed uint64) time.Duration {
	return time.Duration(rand.New(rand.NewPCG(seed, 0)).Int64N(int64(10 * time.Second)))
}

// settled is how long a fleet goes on after its last operation was handed over.
const settled = 15 * time.Minute

func restart(ctx context.Context, seed uint64) ([]figure, error) {
	const from, away = 10 * time.Second, 30 * time.Second
	back := from + away + phase(seed)
	f := newFleet(map[string]Target{"": sturdy(Trouble{From: from, To: back, Away: true})},
		[]load{{service: service, kind: ordinary, rate: 10, to: back + 10*time.Second}}, inHand, seed)
	if err := f.play(ctx, back+settled); err != nil {
		return nil, err
	}
	left, gaveUp := f.unfinished(anything)
	return []figure{
		most("%d dead letters", gaveUp, 0),
		most("%d attempts burnt", f.wasted(anything), 0),
		most("%d left", left, 0),
		most("asked for it %d times", f.unreached, 60),
		most("first success %v after its return", f.firstSuccess(anything, back).Sub(start.Add(back)), 1100*time.Millisecond),
		most("all that waited within %v", f.backlogGone(back), 2*time.Second),
	}, nil
}

func longOutage(ctx context.Context, seed uint64) ([]figure, error) {
	outage := 10*time.Minute + phase(seed)
	target := sturdy(Trouble{To: outage, Down: true})
	f := newFleet(map[string]Target{"": target}, []load{{service: service, kind: ordinary, rate: 10, to: outage + time.Minute}}, inHand, seed)
	if err := f.play(ctx, outage+settled); err != nil {
		return nil, err
	}
	left, gaveUp := f.unfinished(anything)
	ideal := time.Duration(float64(len(f.operations)) / target.Capacity() * float64(time.Second))
	return []figure{
		most("open after %d failures", f.opened[service], 10),
		most("%d attempts wasted", f.wasted(anything), 99),
		most("%d dead letters", gaveUp, 0),
		most("%d left", left, 0),
		most("first success %v after it healed", f.firstSuccess(anything, outage).Sub(start.Add(outage)), 15*time.Second),
		most("backlog gone after %v", f.backlogGone(outage), 20*time.Second+2*ideal),
		most("peak %.2f of its capacity", float64(f.peak(anything, outage))/target.Capacity(), 1.2),
	}, nil
}

func halfFails(ctx context.Context, seed uint64) ([]figure, error) {
	const length = 10 * time.Minute
	f := newFleet(map[string]Target{"": sturdy(Trouble{To: length, Failing: 0.5})}, []load{{service: service, kind: ordinary, rate: 10, to: length}}, inHand, seed)
	if err := f.play(ctx, length+settled); err != nil {
		return nil, err
	}
	left, gaveUp := f.unfinished(anything)
	during := f.succeededIn(start, start.Add(length))
	return []figure{
		least("%.2f of all are delivered meanwhile", float64(during)/float64(len(f.operations)), 0.6),
		most("%d dead letters", gaveUp, 0),
		most("%d left", left, 0),
	}, nil
}

func firstFails(ctx context.Context, seed uint64) ([]figure, error) {
	const n = 500
	target := sturdy()
	target.FailsFirst = true
	f := newFleet(map[string]Target{"": target}, []load{{service: service, kind: ordinary, burst: n}}, inHand, seed)
	if err := f.play(ctx, 2*time.Hour); err != nil {
		return nil, err
	}
	left, gaveUp := f.unfinished(anything)
	return []figure{
		most("%v until all are delivered", f.drained(anything).Sub(start), 12*time.Minute),
		most("%d attempts wasted", f.wasted(anything), n),
		most("%d dead letters", gaveUp, 0),
		most("%d left", left, 0),
	}, nil
}

// backlogGone returns how long after a time the last operation ended that failed before it.
func (f *fleet) backlogGone(healed time.Duration) time.Duration {
	at := start.Add(healed)
	return f.drained(func(op *operation) bool { return op.first.Before(at) }).Sub(at)
}

// twenty returns the loads of 20 services that are well, 280 operations a second in all.
func twenty(d time.Duration) (targets map[string]Target, loads []load) {
	targets = make(map[string]Target)
	for i := range 20 {
		name := fmt.Sprintf("well%02d", i)
		targets[name] = sturdy()
		loads = append(loads, load{service: name, kind: ordinary, target: name, rate: 14, to: d})
	}
	return targets, loads
}

func isWell(op *operation) bool { return strings.HasPrefix(op.service, "well") }

func oneIsDead(ctx context.Context, seed uint64) ([]figure, error) {
	const length = time.Minute
	late := func(dead bool) (time.Duration, int, error) {
		targets, loads := twenty(length)
		if dead {
			targets["dead"] = sturdy(Trouble{To: time.Hour, Down: true})
			loads = append(loads, load{service: "dead", kind: ordinary, target: "dead", rate: 20, to: length})
		}
		f := newFleet(targets, loads, inHand, seed)
		err := f.play(ctx, length+time.Minute)
		left, gaveUp := f.unfinished(isWell)
		return f.lateness(isWell, 99), left + gaveUp, err
	}
	without, _, err := late(false)
	if err != nil {
		return nil, err
	}
	with, left, err := late(true)
	return []figure{
		most("the twenty are %v later at p99", with-without, 50*time.Millisecond),
		most("%d of theirs are not delivered", left, 0),
	}, err
}

func poisonedType(ctx context.Context, seed uint64) ([]figure, error) {
	const length = 3 * time.Minute
	isOrdinary := func(op *operation) bool { return op.kind == ordinary }
	play := func(share float64) (*fleet, error) {
		target := sturdy()
		target.Poisoned = poisoned
		loads := []load{{service: service, kind: ordinary, rate: 99, to: length}}
		if share > 0 {
			loads = append(loads, load{service: service, kind: poisoned, rate: 1, to: length})
		}
		f := newFleet(map[string]Target{"": target}, loads, inHand, seed)
		return f, f.play(ctx, length+time.Minute)
	}
	without, err := play(0)
	if err != nil {
		return nil, err
	}
	with, err := play(0.01)
	left, gaveUp := with.unfinished(isOrdinary)
	return []figure{
		most("the others are %v later at p99", with.lateness(isOrdinary, 99)-without.lateness(isOrdinary, 99), 50*time.Millisecond),
		most("their delays are %.2f times as long", float64(with.until(isOrdinary, 50))/float64(without.until(isOrdinary, 50)), 1.1),
		most("%d of theirs are not delivered", left+gaveUp, 0),
		most("%d attempts wasted on it", with.wasted(func(op *operation) bool { return op.kind == poisoned }), 40),
	}, err
}

func everythingFails(ctx context.Context, seed uint64) ([]figure, error) {
	const services = 8
	outage := 5*time.Minute + phase(seed)
	length := outage + time.Minute
	database := sturdy(Trouble{From: 30 * time.Second, To: outage, Down: true})
	var loads []load
	for i := range services {
		loads = append(loads, load{service: fmt.Sprintf("s%d", i), kind: ordinary, rate: 10, to: length})
	}
	f := newFleet(map[string]Target{"": database}, loads, inHand, seed)
	if err := f.play(ctx, length+settled); err != nil {
		return nil, err
	}
	var found time.Time // when the last of the keys found out
	for _, l := range loads {
		first := f.firstSuccess(func(op *operation) bool { return op.service == l.service }, outage)
		if first.After(found) {
			found = first
		}
	}
	left, gaveUp := f.unfinished(anything)
	pace := found.Add(3 * time.Second)
	return []figure{
		most("%v at most without an attempt", f.rebound.untried(), 15*time.Second),
		most("every key found out within %v", found.Sub(start.Add(outage)), 15*time.Second),
		least("3 s later %.2f of the capacity is used", float64(f.succeededIn(pace, pace.Add(5*time.Second)))/5/database.Capacity(), 0.8),
		most("peak %.2f of it", float64(f.peak(anything, outage))/database.Capacity(), 1.3),
		most("%d dead letters", gaveUp, 0),
		most("%d left", left, 0),
	}, nil
}

func busyHost(ctx context.Context, seed uint64) ([]figure, error) {
	const length = 2 * time.Minute
	f := newFleet(map[string]Target{"": sturdy()}, []load{{service: service, kind: ordinary, rate: 300, to: length}}, inHand, seed)
	f.busy = []span{{20 * time.Second, 90 * time.Second}}
	if err := f.play(ctx, length+time.Minute); err != nil {
		return nil, err
	}
	left, gaveUp := f.unfinished(anything)
	return []figure{
		most("%v late at p99", f.lateness(anything, 99), 500*time.Millisecond),
		most("%d were held", f.rebound.holds, 0),
		most("%d are not delivered", left+gaveUp, 0),
	}, nil
}

func oneHangs(ctx context.Context, seed uint64) ([]figure, error) {
	const length = time.Minute
	targets := map[string]Target{"hangs": sturdy(Trouble{To: time.Hour, Hang: true}), "well": sturdy()}
	hangs := targets["hangs"]
	hangs.Timeout = 10 * time.Second
	targets["hangs"] = hangs
	f := newFleet(targets, []load{
		{service: "well", kind: ordinary, target: "well", rate: 20, to: length},
		{service: "hangs", kind: ordinary, target: "hangs", from: 10 * time.Second, burst: 20_000},
	}, inHand, seed)
	if err := f.play(ctx, length+time.Minute); err != nil {
		return nil, err
	}
	left, gaveUp := f.unfinished(isWell)
	return []figure{
		most("the well service is %v late at most", f.lateness(isWell, 100), 500*time.Millisecond),
		most("%d of its operations are not delivered", left+gaveUp, 0),
	}, nil
}
