package health

import (
	"cmp"
	"math/bits"
	"slices"
	"time"

	"github.com/rebound-mq/rebound/events"
)

const (
	// mostPeers bounds the instances whose evidence on a service is kept. Of more, those that
	// made attempts last are.
	mostPeers = 16
	// shareAgainAfter is when evidence that has not changed is shared again, for instances that
	// did not hear it.
	shareAgainAfter = 10 * time.Second
	// absenceHeard is for how long another instance's word counts that nobody listens.
	absenceHeard = 30 * time.Second

	// An attempt weighs a twentieth of all that is known, so the last fourteen as much as all
	// before them. After a pause it weighs pause / (pause + 30 s), a half at most: while a breaker
	// is open there are few attempts, and those before it opened say little.
	leastShare  = 0.05
	mostOfPause = 0.5
	pauseOfHalf = 30 * time.Second
)

// peer is the evidence of another instance.
type peer struct {
	instance string
	results  uint64
	at       [8]int64 // when the dated attempts ended, in Unix nanoseconds
	count    int

	mean, p95        float64 // in seconds
	trend, variation float64
	absentUntil      int64
}

// view is what all instances together know of a service.
type view struct {
	// hi and lo have a bit for each of the last count attempts, as those of a ring.
	hi, lo      uint64
	count       int
	newest      int64 // when the last of them ended
	lastSuccess int64 // when the last success ended, 0 if there is none
	// failed is the share of failures, in which the latest weigh most. errors is the same after
	// two imaginary successes (Laplace's rule of succession), so that one failure does not
	// condemn a service.
	failed, errors float64

	mean, p95        float64 // in seconds, 0 for none
	trend, variation float64
}

// failures counts the failures among the last n attempts, n at most count.
func (v *view) failures(n int) int { return countFailures(v.hi, v.lo, n) }

// countFailures counts the ones among the lowest n bits.
func countFailures(hi, lo uint64, n int) int {
	if n > 64 {
		return bits.OnesCount64(lo) + bits.OnesCount64(hi&(1<<(n-64)-1))
	}
	return bits.OnesCount64(lo & (1<<n - 1))
}

// size returns the number of attempts at now and the age of the latest; 0 once that is forgotten.
func (v *view) size(now int64) (n int, age time.Duration) {
	if v.count == 0 {
		return 0, 0
	}
	if age = time.Duration(max(now-v.newest, 0)); age > MaxAge {
		return 0, 0
	}
	return v.count, age
}

// knots returns how many of count attempts are dated, see [events.ResultsDated], and knot the i-th
// of them.
func knots(count int) int {
	if count <= 1 {
		return count
	}
	return bits.Len(uint(count-2)) + 2
}

func knot(i, count int) int {
	if i == 0 {
		return 0
	}
	return min(1<<(i-1), count-1)
}

// ended returns when the attempt k, counted from the latest, ended: between two that are dated, it
// lies where it would if they were evenly spread.
func (p *peer) ended(k int) int64 {
	if k == 0 {
		return p.at[0]
	}
	i := bits.Len(uint(k))
	before, after := 1<<(i-1), min(1<<i, p.count-1)
	if k == before || after <= before {
		return p.at[i]
	}
	return p.at[i] - (p.at[i]-p.at[i+1])*int64(k-before)/int64(after-before)
}

// look returns what all instances know, computed anew if anything has changed.
func (s *service) look() *view {
	if s.stale {
		s.seen, s.stale = s.merge(), false
	}
	return &s.seen
}

// merge puts the attempts of this instance and of the others in the order in which they ended. Of
// each it takes what is shared, so that all instances come to the same result. An instance that
// heard of no attempts elsewhere also takes its own that are too old to be shared.
func (s *service) merge() (v view) {
	var ended [Samples]int64 // latest first
	own := s.own()
	if len(s.peers) == 0 {
		for v.count < s.ring.count {
			at := s.ring.at[s.ring.index(v.count)]
			if v.count < own.count {
				at = own.ended(v.count) // as the others date it
			}
			v.put(bit(s.ring.hi, s.ring.lo, v.count), at, &ended)
		}
	} else {
		s.mergeAttempts(&own, &v, &ended)
	}
	v.weigh(&ended)
	s.mergeTimes(&v)
	return v
}

// own returns the attempts of this instance as its peers know them.
func (s *service) own() peer {
	own := peer{results: s.ring.lo, count: min(s.ring.count, events.MaxResults)}
	for i := range knots(own.count) {
		own.at[i] = s.ring.at[s.ring.index(knot(i, own.count))]
	}
	return own
}

// mergeAttempts merges the attempts of this instance and of its peers.
func (s *service) mergeAttempts(own *peer, v *view, ended *[Samples]int64) {
	var taken [mostPeers + 1]int
	next := taken[:len(s.peers)+1] // of each peer, and of this instance
	source := func(i int) *peer {
		if i < len(s.peers) {
			return &s.peers[i]
		}
		return own
	}
	for v.count < Samples {
		latest, at, failed := -1, int64(0), false
		for i := range next {
			p := source(i)
			if next[i] >= p.count {
				continue
			}
			// Of two at one time all instances must take the same first: a failure.
			t, f := p.ended(next[i]), bit(0, p.results, next[i])
			if latest < 0 || t > at || t == at && f && !failed {
				latest, at, failed = i, t, f
			}
		}
		if latest < 0 || v.count > 0 && v.newest-at > int64(MaxAge) {
			return
		}
		v.put(failed, at, ended)
		next[latest]++
	}
}

// put records an attempt older than those before it.
func (v *view) put(failed bool, at int64, ended *[Samples]int64) {
	if v.count == 0 {
		v.newest = at
	}
	switch {
	case !failed:
		v.lastSuccess = max(v.lastSuccess, at)
	case v.count < 64:
		v.lo |= 1 << v.count
	default:
		v.hi |= 1 << (v.count - 64)
	}
	ended[v.count] = at
	v.count++
}

// bit reports whether the k-th lowest bit is set.
func bit(hi, lo uint64, k int) bool {
	if k < 64 {
		return lo>>k&1 == 1
	}
	return hi>>(k-64)&1 == 1
}

// weigh computes the shares of failures from the attempts and when they ended, latest first.
func (v *view) weigh(ended *[Samples]int64) {
	for n := 1; n <= v.count; n++ { // from the oldest
		k := v.count - n
		weight := leastShare
		if n > 1 {
			pause := float64(ended[k] - ended[k+1])
			weight = max(weight, min(pause/(pause+float64(pauseOfHalf)), mostOfPause))
		}
		failed := 0.0
		if bit(v.hi, v.lo, k) {
			failed = 1
		}
		v.failed += max(weight, 1/float64(n)) * (failed - v.failed)
		v.errors += max(weight, 1/float64(n+2)) * (failed - v.errors)
	}
}

// mergeTimes averages the response times, weighted by attempts. The percentile is the longest.
func (s *service) mergeTimes(v *view) {
	total, squares := 0.0, 0.0
	add := func(n int, mean, p95, trend, variation float64) {
		if n == 0 || mean <= 0 {
			return
		}
		weight := float64(n)
		total += weight
		v.mean += weight * mean
		v.trend += weight * trend
		squares += weight * mean * mean * (1 + variation)
		v.p95 = max(v.p95, p95)
	}
	add(s.ring.count, s.ring.mean, 0, s.ring.trend, s.ring.variation)
	alone := total > 0
	for i := range s.peers {
		p := &s.peers[i]
		add(p.count, p.mean, p.p95, p.trend, p.variation)
		alone = alone && (p.count == 0 || p.mean <= 0)
	}
	switch {
	case total == 0:
	case alone: // exactly what was measured
		v.mean, v.trend, v.variation = s.ring.mean, s.ring.trend, s.ring.variation
	default:
		v.mean /= total
		v.trend /= total
		v.variation = max(squares/total/(v.mean*v.mean)-1, 0)
	}
}

// absentAt reports whether nobody listens on a target of the service, as this instance or another
// found.
func (s *service) absentAt(now int64) bool {
	return s.absent || slices.ContainsFunc(s.peers, func(p peer) bool { return p.absentUntil > now })
}

// evidence returns what this instance measured, in the form in which it is shared.
func (s *service) evidence(name string, now int64) events.ServiceEvidence {
	r := &s.ring
	e := events.ServiceEvidence{Service: name, Absent: s.absent}
	n := r.size(now)
	if e.Count = min(n, events.MaxResults); e.Count == 0 {
		return e
	}
	e.Results = r.lo & (1<<e.Count - 1)
	for i := range knots(e.Count) {
		k := knot(i, e.Count)
		e.Ages = append(e.Ages, max(now-r.at[r.index(k)], 0)/int64(time.Millisecond))
	}
	slices.Sort(e.Ages) // a clock may have gone back
	e.Mean, e.Trend, e.Variation = inSeconds(r.mean), r.trend, r.variation
	if p95, ok := r.percentile(95); ok {
		e.P95 = inSeconds(p95)
	}
	return e
}

func inSeconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// hear takes in the evidence of another instance.
func (s *service) hear(instance string, e *events.ServiceEvidence, now int64) {
	p := peer{
		instance: instance, results: e.Results, count: min(e.Count, events.MaxResults, maxDated(len(e.Ages))),
		mean: e.Mean.Seconds(), p95: e.P95.Seconds(), trend: e.Trend, variation: e.Variation,
	}
	for i, age := range e.Ages[:min(len(e.Ages), len(p.at))] {
		p.at[i] = now - age*int64(time.Millisecond)
	}
	if e.Absent {
		p.absentUntil = now + int64(absenceHeard)
	}
	s.stale = true
	for i := range s.peers {
		if s.peers[i].instance == instance {
			s.peers[i] = p
			return
		}
	}
	if len(s.peers) < mostPeers {
		s.peers = append(s.peers, p)
		return
	}
	oldest := slices.MinFunc(s.peers, func(a, b peer) int { return cmp.Compare(a.at[0], b.at[0]) })
	for i := range s.peers {
		if s.peers[i].instance == oldest.instance && oldest.at[0] < p.at[0] {
			s.peers[i] = p
			return
		}
	}
}

// maxDated returns how many attempts n ages can date.
func maxDated(n int) int {
	if n <= 1 {
		return n
	}
	return 1<<(n-2) + 1
}

// Share returns what this instance measured and the others have not heard, of at most
// [events.MaxEvidence] services, those first that were shared longest ago. What has not changed is
// shared every ten seconds, and at once if all. absent reports whether nobody listens on a target
// of a service, as far as this instance knows.
func (r *Registry) Share(absent func(service string) bool, all bool, now time.Time) []events.ServiceEvidence {
	type due struct {
		service *service
		name    string
		shared  int64
	}
	var dues []due
	at := now.UnixNano()
	for _, name := range r.services.Keys() {
		s, ok := r.services.Peek(name)
		if !ok {
			continue
		}
		isAbsent := absent(name)
		s.mu.Lock()
		changed := s.changed || isAbsent || s.absent
		n := s.ring.size(at)
		if s.absent = isAbsent; changed || n > 0 && (all || at-s.sharedAt >= int64(shareAgainAfter)) {
			dues = append(dues, due{s, name, s.sharedAt})
		}
		s.mu.Unlock()
	}
	slices.SortFunc(dues, func(a, b due) int { return cmp.Or(cmp.Compare(a.shared, b.shared), cmp.Compare(a.name, b.name)) })
	var evidence []events.ServiceEvidence
	for _, d := range dues[:min(len(dues), events.MaxEvidence)] {
		d.service.mu.Lock()
		evidence = append(evidence, d.service.evidence(d.name, at))
		d.service.sharedAt, d.service.changed = at, false
		d.service.mu.Unlock()
	}
	return evidence
}

// HearEvidence takes in what another instance measured. Like a report, it makes no room for a
// service that is not known yet.
func (r *Registry) HearEvidence(instance string, evidence []events.ServiceEvidence, now time.Time) {
	for i := range evidence {
		e := &evidence[i]
		s, ok := r.services.Peek(e.Service)
		if !ok {
			if r.services.Len() >= MaxServices {
				continue
			}
			s = r.heard(e.Service)
		}
		s.mu.Lock()
		s.hear(instance, e, now.UnixNano())
		s.mu.Unlock()
	}
}
