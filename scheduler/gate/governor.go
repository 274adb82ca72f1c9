package gate

import (
	"math"
	"time"

	"github.com/rebound-mq/rebound/health"
)

// Governor paces the release of a key after an outage, so that a healed target is
// not felled by what waited for it. It governs a rate, in operations a second; how many
// may be in flight follows from the rate by Little's law.
//
//	off ── breaker closed, or target is back ─▶ slow start: the rate doubles with
//	 ▲  │                                          │    ▲   each round of successes
//	 │  └── congestion while off ─────▶ additive ◀─┘    │
//	 │                                   │    │ congestion: the rate is beyond what
//	 └── the rate was not needed for ────┘    └────────── congested the target, or the
//	     10 s, or nothing went for a minute               cuts were ineffective
//
// A round is about four response times. Congestion is a share of failures 5 points
// above the baseline, chance aside, or a response time above 3 times the baseline for a
// quarter of a second; in the first slow start a single failure can be enough. The
// response time is the mean of the last answers, and counts only when most of them are
// that slow: a queue delays all answers, a busy machine only some. Congestion multiplies
// the rate by 0.7 at the end of slow start and by 0.85 after that, or by the share of it
// that the target stood if that is less, but at least by 0.5; and only once for what was
// in flight at the time. Without congestion each round adds a hundredth of the rate that
// congested the target last. From twice the baseline latency on the rate does not grow.
//
// Congestion that stays although the rate was cut to a tenth, or to the least, is not
// caused by the rate. It becomes the baseline, so that the rate does not waste away at a
// target that fails at random or has become slow, and no target is left less than 10 a
// second then. Failures show that sooner: what an overloaded target lets through stays
// the same when the rate is cut to f of what it was, so that the share s that fails
// becomes 1-(1-s)/f, while chance goes on failing the same share.
//
// A target that is slow and fails at nothing is slowed to half of what it stood, no further:
// a queue empties at that, and slowness that stays is not caused by the rate.
//
// The growth is clocked by successes and only happens while the rate is needed,
// like TCP's congestion window: slow start, additive increase and multiplicative decrease
// (AIMD) of RFC 5681, and RFC 7661 for a window that is not used. Operations are spaced
// by the generic cell rate algorithm (GCRA, ITU-T I.371); judging by the response time
// is the idea of TCP Vegas and of the Gradient limit of Netflix's concurrency-limits.
//
// The zero value is off: it limits nothing and measures the baseline latency and failure
// rate, outages aside.
type Governor struct {
	phase              phase
	epoch              uint32  // counts the cuts; what went before the last one decides nothing
	rate               float64 // operations a second
	theoreticalArrival int64   // of the next operation (GCRA), Unix nanoseconds

	congestedRate float64 // the rate that congested the target last (ssthresh of RFC 5681)
	run           run     // how it was before the cuts from which the rate has not recovered
	ineffective   bool    // a cut was, since the governor is on
	failed        bool    // an attempt did, since the governor is on, or it came on after an outage
	cutAt         int64   // when the last cut was, Unix nanoseconds
	idle          int64   // since when the rate is not needed, Unix nanoseconds
	used          int64   // when an operation went last, or the breaker closed, Unix nanoseconds
	slow          int     // rounds in a row that were slow while off

	healed time.Time // when the breaker closed

	round round
	responses
	baselineFailureRate float64 // share of failures that is not of our making
	deep                sample  // results since the rate is deeply cut
	above               sample  // results at more than half of the rate before the cuts
	below               sample  // results at less
	settling            int     // how many came at less before those
}

// responses are the response times of a target, in nanoseconds.
type responses struct {
	last            [span]float64 // those of the last answers, each in turn
	answers         int           // how many there were since the last cut
	recent          float64       // their mean, which weighs the last ones most
	lagged          int64         // since when that is congestion, Unix nanoseconds; 0 is not now
	baselineLatency float64       // that of the healthy target; 0 is not known
}

type phase uint8

const (
	off phase = iota
	slowStart
	additive
)

// round is what was seen since it began.
type round struct {
	began             int64 // Unix nanoseconds
	sent              int
	refused           bool // more would have gone
	succeeded, failed int
	throttled         int     // of those that failed
	took              float64 // of all that succeeded, nanoseconds
}

// sample counts results and adds up the rates at which they came.
type sample struct {
	all, failed int
	rates       float64
}

// run holds the rate, the share of failures and the successes a second at the first cut from
// which the rate has not recovered, and the mean response time at the last one, in
// nanoseconds.
type run struct {
	rate, share, served, response float64
}

// span is how many answers the response time is judged by.
const span = 16

const (
	startRate = 10.0 // operations a second
	leastRate = 1.0
	// returnRate delivers what came in half a minute at 10 a second within one second. It
	// leaves some of that for the probe that finds the target.
	returnRate = 100.0
	// ineffectiveRate is left to a target whose failures do not fall with the rate, like
	// the trickle of [RetryBudget]: the operations themselves may be at fault.
	ineffectiveRate = 10.0
	// burst is how far operations may run ahead of an even pace. A longer one overflows
	// short queues at once, and failures in a row open the breaker.
	burst = 5 * time.Millisecond
	// mostAhead is the longest pause between two operations, and some.
	mostAhead = 2 * time.Second

	// Congestion multiplies the rate by one of these. Heavy congestion multiplies it by
	// less, but never by less than leastCut.
	slowStartCut = 0.7
	additiveCut  = 0.85
	leastCut     = 0.5
	// Cuts are ineffective when congestion stays although this share of the rate, or this
	// rate, is left.
	ineffectiveCut = 0.1
	fewRate        = 4.0
	// A target that is slow and fails at nothing keeps slowShare of what it stood. There a cut
	// is ineffective when answers take at least stillSlow of what they took at the last one.
	// Up to slowMargin of that counts as that, because the rate grows a little before the
	// first answers are known.
	slowShare  = 0.5
	slowMargin = 1.1
	stillSlow  = 0.8
	// Whether cuts help shows once the rate is below halved of what it was before them.
	// Failures are chance when at least sameShare as many fail as before, although
	// clearShare fewer would if the cuts helped.
	halved     = 0.5
	clearShare = 0.15
	sameShare  = 0.85
	// slower is the least factor by which an ineffective cut lengthens the baseline
	// latency, and slowerShare the share of the way to the latency that would not be
	// congestion.
	slower      = 1.05
	slowerShare = 0.5
	// Two cuts are a response time apart, so that the second knows what came of
	// the first, and shortestRest at least, because quotas are counted by time.
	shortestRest = 500 * time.Millisecond
	// additiveStep is what a round adds, as a share of the rate that congested the
	// target last.
	additiveStep = 0.01
	// beyond is how far above that rate slow start begins again, and recovered how
	// much of the rate before the cuts is enough to forget them.
	beyond    = 1.2
	recovered = 0.9

	// A round is roundResponses response times, within bounds.
	roundResponses = 4
	shortestRound  = 200 * time.Millisecond
	longestRound   = 10 * time.Second
	fewest         = 5 // results that a round should have
	// staleRounds is after how many times its length a round ends with fewer results, and
	// what it saw is forgotten when nothing goes any more.
	staleRounds = 10

	// congestedShare is how far above the baseline the share of failures is congestion.
	congestedShare = 0.05
	// congestedTimes is the multiple of the baseline latency that is congestion, and
	// latencyFloor the least that it must be longer by.
	congestedTimes = 3
	// warnTimes is the multiple that stops the growth and ends slow start before it is
	// congestion.
	warnTimes    = 2
	latencyFloor = 10 * time.Millisecond
	// lagTime is how long answers must have been that slow. A server that pauses, to
	// collect garbage say, is not congested.
	lagTime = 250 * time.Millisecond
	// deepSample is how many results make a baseline of the share of failures.
	deepSample = 32
	// leastBaselineFailureRate is the share of failures that may always be chance, and
	// mostBaselineFailureRate the largest baseline: a target that fails almost always is
	// never taken for well.
	leastBaselineFailureRate = 0.04
	mostBaselineFailureRate  = 0.4

	// While the governor is off it takes more to turn it on: failures that are no
	// chance, or so many slow rounds in a row.
	onFailures = 10
	onShare    = 0.1
	onRounds   = 3

	// relapse is how soon after its breaker has closed it opens again for what the
	// governor let through.
	relapse = time.Minute

	// calmTime is for how long nothing must have been cut for an early release.
	calmTime = time.Second

	// restTime is for how long the rate must not have been needed before the
	// governor turns off.
	restTime = 10 * time.Second
	// quietTime is for how long nothing at all must have gone for the same.
	quietTime = time.Minute
)

// Recover begins slow start, because the breaker has closed again. If it opened for
// what came after it closed last, slow start ends before the rate that congested the
// target then.
func (g *Governor) Recover(now time.Time) {
	if g.phase == off || now.Sub(g.healed) > relapse || g.congestedRate <= startRate {
		g.congestedRate = 0
	}
	g.phase, g.rate = slowStart, startRate
	g.forgetRun()
	g.ineffective, g.failed = false, true
	g.theoreticalArrival, g.idle, g.cutAt = 0, 0, 0
	g.healed, g.used = now, now.UnixNano()
	g.cutOff(now.UnixNano())
}

// Return begins slow start for a target that was absent. It starts at more than after an
// outage: a target that nobody could reach has not failed.
func (g *Governor) Return(now time.Time) {
	g.Recover(now)
	g.rate = returnRate
}

// On reports whether the governor limits anything.
func (g *Governor) On() bool { return g.phase != off }

// OnlySlow reports whether the governor is on because the target has become slow, and nothing
// has failed.
func (g *Governor) OnlySlow() bool { return g.phase != off && !g.failed }

// Rate returns how many operations a second may go. It counts only while the
// governor is on, and is never below 1.
func (g *Governor) Rate() float64 { return g.rate }

// Concurrency returns how many operations may be in flight: twice as many as the
// rate keeps in flight at the baseline latency, and 2. It counts only while the
// governor is on.
func (g *Governor) Concurrency() int {
	latency := g.baselineLatency
	if latency <= 0 {
		latency = float64(time.Second)
	}
	return int(math.Ceil(2*g.rate*latency/float64(time.Second))) + 2
}

// Available returns how many operations may go at now beside those in flight, and,
// when that is 0, when there will be more; a zero next is not before one of those
// in flight is done. limited is false while the governor is off.
func (g *Governor) Available(inFlight int, now time.Time) (n int, next time.Time, limited bool) {
	if g.phase == off {
		return 0, time.Time{}, false
	}
	t := now.UnixNano()
	if g.rest(inFlight, t); g.phase == off {
		return 0, time.Time{}, false
	}
	ahead := max(g.theoreticalArrival, t) - t
	if ahead > int64(burst+mostAhead) { // the clock was set back
		g.theoreticalArrival, ahead = t, 0
	}
	if ahead > int64(burst) {
		g.round.refused = true
		return 0, time.Unix(0, g.theoreticalArrival-int64(burst)), true
	}
	n = 1 + int(float64(int64(burst)-ahead)/float64(time.Second)*g.rate)
	n = max(min(n, g.Concurrency()-inFlight), 0)
	g.round.refused = g.round.refused || n == 0
	return n, time.Time{}, true
}

// Take records that an operation goes and returns the epoch to pass to
// [Governor.Done] with its result.
func (g *Governor) Take(now time.Time) (epoch uint32) {
	g.round.sent++
	g.used = now.UnixNano()
	if g.phase != off {
		g.theoreticalArrival = max(g.theoreticalArrival, g.used) + int64(float64(time.Second)/g.rate)
	}
	return g.epoch
}

// Early reports whether parked operations may be released before they are due: the
// breaker has closed, which proves the target healthy, it has not been congested for
// a while, and no operation waits in a lane. Only what was parked before the breaker
// closed has a delay that was stretched while the target was ill. The caller spares
// what waits for a Retry-After.
func (g *Governor) Early(held, inFlight int, now time.Time) (ok bool, parkedBefore time.Time) {
	g.rest(inFlight, now.UnixNano())
	calm := !g.failing() && now.UnixNano()-g.cutAt > int64(calmTime)
	return g.phase != off && !g.healed.IsZero() && calm && held == 0, g.healed
}

// Backlog records that operations are parked that may be released early. The rate is needed
// for them, however slowly the instance lets them out.
func (g *Governor) Backlog() { g.idle = 0 }

// Idle reports whether the governor is off at now, when inFlight operations are in flight.
func (g *Governor) Idle(inFlight int, now time.Time) bool {
	g.rest(inFlight, now.UnixNano())
	return g.phase == off
}

// rest takes account of time in which nothing goes: it forgets the results of the round,
// which say nothing any more, and after quietTime turns the governor off.
func (g *Governor) rest(inFlight int, t int64) {
	// The clock may have been set back.
	g.used, g.cutAt, g.idle = min(g.used, t), min(g.cutAt, t), min(g.idle, t)
	if inFlight > 0 {
		return
	}
	if float64(t-max(g.used, g.round.began)) >= staleRounds*g.roundTime() {
		g.round, g.lagged = round{began: t}, 0
	}
	if t-g.used >= int64(quietTime) {
		g.phase = off
	}
}

// Done records how an attempt ended and how long it took.
func (g *Governor) Done(epoch uint32, r Result, took time.Duration, now time.Time) {
	if epoch != g.epoch {
		return
	}
	t := now.UnixNano()
	switch {
	case g.round.began == 0:
		g.round.began = t
	case g.round.began > t: // the clock was set back
		g.round = round{began: t}
		g.cutAt, g.idle, g.lagged = 0, 0, 0
	}
	switch r {
	case Success:
		g.succeeded(took, t)
	case Failure, Throttled:
		g.round.failed++
		g.failed = true
		if r == Throttled {
			g.round.throttled++
		}
	case Ignored, Unused:
		return
	}
	g.count(r)
	switch over := g.roundOver(t); {
	case g.phase == off && over:
		g.judgeFree(t)
	case g.phase == off:
	case g.failing(), g.late() && t-g.lagged >= int64(lagTime):
		if float64(t-g.cutAt) >= max(g.recent, float64(shortestRest)) {
			g.cutRate(t)
		}
	case g.phase == slowStart && g.lagging(warnTimes):
		g.phase, g.congestedRate = additive, g.rate
	case over:
		g.wentWell(t)
	}
}

// ofTarget returns how much of a response time is the target's, if own may be the instance's.
func (g *Governor) ofTarget(took, own time.Duration) time.Duration {
	return health.OfTarget(took, own, time.Duration(g.baselineLatency))
}

// count keeps what is needed to tell whether the cuts help.
func (g *Governor) count(r Result) {
	if g.phase == off {
		return
	}
	if g.deeplyCut() {
		g.deep.add(r, g.rate)
	} else {
		g.deep = sample{}
	}
	switch {
	case g.run == (run{}) || g.rate > halved*g.run.rate:
		g.above.add(r, g.rate)
	case g.settling < deepSample/2:
		g.settling++ // a queue that was full takes its time to empty
	default:
		g.below.add(r, g.rate)
	}
}

func (g *Governor) succeeded(took time.Duration, t int64) {
	g.round.succeeded++
	g.round.took += float64(took)
	g.last[g.answers%span] = float64(took)
	g.answers++
	g.recent += (float64(took) - g.recent) / float64(min(g.answers, span))
	switch {
	case g.round.succeeded < fewest: // too few to tell
	case !g.lagging(congestedTimes):
		g.lagged = 0
	case g.lagged == 0:
		g.lagged = t
	}
	if g.phase != off && g.needed(t) && !g.lagging(warnTimes) {
		g.grow()
	}
}

// grow adds one success's part of what a round adds.
func (g *Governor) grow() {
	seconds := g.roundTime() / float64(time.Second)
	if g.phase == slowStart {
		g.rate += math.Ln2 / seconds
	} else {
		g.rate += additiveStep * g.congestedRate / (g.rate * seconds)
	}
	switch {
	case g.rate > beyond*g.congestedRate:
		g.phase = slowStart
	case g.rate > slowStartCut*g.congestedRate:
		g.phase = additive
	}
	if g.run != (run{}) && g.rate > recovered*g.run.rate {
		g.forgetRun()
	}
}

// needed reports whether more would have gone, or at least half of the rate was
// used.
func (g *Governor) needed(t int64) bool {
	seconds := float64(t-g.round.began) / float64(time.Second)
	return g.round.refused || float64(g.round.sent) >= g.rate/2*seconds
}

// cutRate cuts the rate, because the target is congested.
func (g *Governor) cutRate(t int64) {
	if g.run == (run{}) {
		g.run = run{rate: g.rate, share: g.round.share(), served: g.served(t)}
	}
	g.congestedRate = g.rate
	g.rate = max(g.rate*g.cut(), leastRate, g.slowRate())
	if g.ineffective {
		g.rate = max(g.rate, ineffectiveRate)
	}
	g.phase, g.cutAt = additive, t
	switch {
	case g.deeplyCut() && g.cutWasIneffective():
		g.rebaseline()
	case g.chanceFails():
		both := sample{all: g.above.all + g.below.all, failed: g.above.failed + g.below.failed}
		g.baselineFailureRate = min(both.share(), mostBaselineFailureRate)
		g.forgetRun()
	}
	g.run.response = g.recent
	g.cutOff(t)
}

// served returns how many operations a second succeed.
func (g *Governor) served(t int64) float64 {
	age := t - g.round.began
	if age < int64(shortestRound) || g.round.succeeded < fewest {
		return g.rate // too few to tell
	}
	return min(float64(g.round.succeeded)*float64(time.Second)/float64(age), g.rate)
}

// slowRate returns what is left to a target that is slow and fails at nothing: a share of
// what it stood before the cuts, at which a queue empties.
func (g *Governor) slowRate() float64 {
	if g.failed {
		return 0
	}
	return slowShare * g.run.served
}

// cut returns the factor by which congestion multiplies the rate.
func (g *Governor) cut() float64 {
	most := additiveCut
	if g.phase == slowStart {
		most = slowStartCut
	}
	// Two failures of three say little of the share that fails, even when they are
	// congestion.
	n := float64(g.round.failed + g.round.succeeded)
	stood := (1 - max(g.round.share()-g.chance()/max(n, 1), 0)) / (1 - g.baselineFailureRate)
	if g.late() {
		stood = min(stood, congestedTimes*g.baselineLatency/g.recent)
	}
	return max(min(stood, most), leastCut)
}

// deeplyCut reports whether so little is left of the rate that it cannot be what
// congests the target.
func (g *Governor) deeplyCut() bool {
	return g.run != (run{}) && g.rate <= max(g.run.rate*ineffectiveCut, fewRate, slowMargin*g.slowRate())
}

// cutWasIneffective reports whether the congestion is as it was at the first cut. A cut
// for a target that throttles is never ineffective: it says itself what it wants.
func (g *Governor) cutWasIneffective() bool {
	if g.round.throttled > 0 {
		return false
	}
	if g.late() {
		// A queue that empties answers sooner each time.
		return g.slowRate() == 0 || g.recent > stillSlow*g.run.response
	}
	return g.deep.all >= deepSample && g.deep.share() > g.run.share/2
}

// chanceFails reports whether as many fail since the rate was halved as before, although
// clearly fewer would if it had been too high.
func (g *Governor) chanceFails() bool {
	if g.round.throttled > 0 || g.below.all < deepSample || g.above.all < deepSample/2 {
		return false
	}
	before := g.above.share()
	helped := max(1-(1-before)*g.above.rate()/g.below.rate(), 0)
	return before-helped >= clearShare && g.below.share() > sameShare*before
}

// forgetRun begins to judge anew whether cuts help.
func (g *Governor) forgetRun() {
	g.run, g.above, g.below, g.settling = run{}, sample{}, sample{}, 0
}

// rebaseline accepts the current failure rate and latency as the new normal: failures
// at once, a response time little by little, because a queue that others fill too
// takes its time to empty.
func (g *Governor) rebaseline() {
	if g.late() {
		uncongested := (g.recent - float64(latencyFloor)) / congestedTimes
		g.baselineLatency = max(g.baselineLatency*slower, g.baselineLatency+slowerShare*(uncongested-g.baselineLatency))
		return
	}
	g.baselineFailureRate = min(g.deep.share(), mostBaselineFailureRate)
	g.phase, g.ineffective = slowStart, true
	g.forgetRun()
	g.rate = max(g.rate, ineffectiveRate)
}

// cutOff begins anew: what is on its way decides nothing any more.
func (g *Governor) cutOff(t int64) {
	g.epoch++
	g.round = round{began: t}
	g.recent, g.answers, g.lagged, g.slow = 0, 0, 0, 0
}

// wentWell ends a round without congestion.
func (g *Governor) wentWell(t int64) {
	if n := g.round.failed + g.round.succeeded; n >= deepSample && g.round.share() < g.baselineFailureRate/2 {
		g.baselineFailureRate *= 0.9
	}
	if g.deeplyCut() {
		g.learn(0.1)
	} else {
		g.learn(0)
	}
	switch {
	case g.needed(t):
		g.idle = 0
	case g.idle == 0:
		g.idle = g.round.began
	case t-g.idle >= int64(restTime):
		g.phase, g.idle = off, 0
	}
	g.round = round{began: t}
}

// judgeFree ends a round while the governor is off.
func (g *Governor) judgeFree(t int64) {
	share := g.round.share()
	slow := g.lagging(congestedTimes)
	switch {
	case g.round.failed >= onFailures && share > onShare+2*g.baselineFailureRate:
		g.begin(t)
		return
	case slow && g.slow+1 >= onRounds:
		g.begin(t)
		return
	case slow:
		g.slow++
	default:
		g.slow = 0
		if share <= mostBaselineFailureRate { // else it is an outage
			g.baselineFailureRate += 0.1 * (share - g.baselineFailureRate)
		}
		g.learn(0.002)
	}
	g.round = round{began: t}
}

// begin turns the governor on at the rate at which operations went.
func (g *Governor) begin(t int64) {
	seconds := float64(max(t-g.round.began, 1)) / float64(time.Second)
	g.rate = max(float64(g.round.sent)/seconds, leastRate)
	g.phase, g.theoreticalArrival, g.idle, g.ineffective = additive, 0, 0, false
	g.failed = g.round.failed > 0
	g.forgetRun()
	g.cutRate(t)
}

// learn brings the baseline latency towards that of the round: quickly when
// the target is faster, by the share up when it is slower.
func (g *Governor) learn(up float64) {
	mean := g.round.mean()
	switch {
	case mean == 0:
	case g.baselineLatency == 0:
		g.baselineLatency = mean
	case mean < g.baselineLatency:
		g.baselineLatency += 0.5 * (mean - g.baselineLatency)
	default:
		g.baselineLatency += up * (mean - g.baselineLatency)
	}
}

// failing reports whether the share of failures is above the baseline by congestedShare
// and what chance explains. In the first slow start after an outage chance explains
// nothing.
func (g *Governor) failing() bool {
	allowed := (congestedShare + g.baselineFailureRate) * float64(g.round.failed+g.round.succeeded)
	if g.phase != slowStart || g.congestedRate > 0 {
		allowed += g.chance()
	}
	return float64(g.round.failed) > allowed
}

// chance is how many failures of a round chance explains beside the baseline: two
// standard deviations and one.
func (g *Governor) chance() float64 {
	p := max(g.baselineFailureRate, leastBaselineFailureRate)
	return 1 + 2*math.Sqrt(p*(1-p)*float64(g.round.failed+g.round.succeeded))
}

// lagging reports whether the target takes more than this multiple of the baseline
// latency.
func (g *Governor) lagging(times float64) bool {
	return g.round.succeeded >= fewest && g.slower(times)
}

func (g *Governor) slower(times float64) bool {
	limit := times*g.baselineLatency + float64(latencyFloor)
	if g.baselineLatency == 0 || g.recent <= limit {
		return false
	}
	known, above := min(g.answers, span), 0
	for _, took := range g.last[:known] {
		if took > limit {
			above++
		}
	}
	return 2*above > known
}

// late reports whether answers have been slow for so long that it is congestion, even
// when this round has few yet.
func (g *Governor) late() bool { return g.lagged != 0 && g.slower(congestedTimes) }

func (g *Governor) roundOver(t int64) bool {
	age, full := float64(t-g.round.began), g.roundTime()
	return age >= full && g.round.succeeded+g.round.failed >= fewest || age >= staleRounds*full
}

// roundTime returns how long a round lasts, in nanoseconds.
func (g *Governor) roundTime() float64 {
	return min(max(roundResponses*max(g.recent, g.baselineLatency), float64(shortestRound)), float64(longestRound))
}

func (s *sample) add(r Result, rate float64) {
	s.all++
	s.rates += rate
	if r == Failure {
		s.failed++
	}
}

func (s sample) rate() float64 { return s.rates / float64(max(s.all, 1)) }

func (s sample) share() float64 {
	if s.all == 0 {
		return 0
	}
	return float64(s.failed) / float64(s.all)
}

func (r *round) share() float64 {
	if r.failed == 0 {
		return 0
	}
	return float64(r.failed) / float64(r.failed+r.succeeded)
}

func (r *round) mean() float64 {
	if r.succeeded == 0 {
		return 0
	}
	return r.took / float64(r.succeeded)
}
