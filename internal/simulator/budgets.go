package simulator

import (
	"math"
	"time"

	"github.com/rebound-mq/rebound/scheduler/policy"
)

// awsQuota is the retry quota of the standard retry mode of the AWS SDKs: 500 tokens. A retry
// takes 5, one after a timeout 10; a successful retry returns what it took, a successful first
// try 1.
type awsQuota struct{ tokens int }

const awsTokens = 500

func newAWSQuota() *awsQuota { return &awsQuota{awsTokens} }

func (b *awsQuota) requested(failed, _, retry bool, paid int, _ time.Time) {
	if failed {
		return
	}
	if !retry {
		paid = 1
	}
	b.tokens = min(b.tokens+paid, awsTokens)
}

func (b *awsQuota) withdraw(f policy.Failure, _ time.Time) (int, bool) {
	cost := 5
	if f.Code == timedOut {
		cost = 10
	}
	if cost > b.tokens {
		return 0, false
	}
	b.tokens -= cost
	return cost, true
}

func (*awsQuota) pace(time.Time) time.Duration { return 0 }

// awsDelay is the delay of the AWS SDKs: random(0, 1) × 2^i s, at most 20 s, with 3 attempts in
// all. It honours a Retry-After.
func awsDelay(w *world) func(*operation, answer) (time.Duration, bool) {
	return func(op *operation, a answer) (time.Duration, bool) {
		if op.attempts >= 3 {
			return 0, false
		}
		d := w.jitter() * min(math.Exp2(float64(op.attempts-1)), 20)
		return max(time.Duration(d*float64(time.Second)), a.failure.RetryAfter), true
	}
}

// awsAdaptive is the adaptive retry mode of the AWS SDKs: the quota, and a rate that falls by the
// factor 0.7 with each throttled request and grows along a cubic curve. Here it paces the retries
// only, because the first tries are the same in all runs.
type awsAdaptive struct {
	awsQuota
	on                  bool
	rate, tokens        float64
	filled              time.Time
	measured            float64 // requests a second, smoothed
	counted             int
	counting            time.Time
	lastMax, timeWindow float64
	lastThrottled       time.Time
}

func newAWSAdaptive() *awsAdaptive { return &awsAdaptive{awsQuota: awsQuota{awsTokens}} }

func (b *awsAdaptive) requested(failed, throttled, retry bool, paid int, now time.Time) {
	b.awsQuota.requested(failed, throttled, retry, paid, now)
	b.measure(now)
	const beta, scale = 0.7, 0.4
	var calculated float64
	if throttled {
		b.lastMax = b.measured
		if b.on {
			b.lastMax = min(b.measured, b.rate)
		}
		b.timeWindow = math.Cbrt(b.lastMax * (1 - beta) / scale)
		b.lastThrottled, b.on = now, true
		calculated = b.lastMax * beta
	} else {
		b.timeWindow = math.Cbrt(b.lastMax * (1 - beta) / scale)
		calculated = scale*math.Pow(now.Sub(b.lastThrottled).Seconds()-b.timeWindow, 3) + b.lastMax
	}
	if b.on {
		b.refill(now)
		b.rate = max(min(calculated, 2*b.measured), 0.5)
		b.tokens = min(b.tokens, max(b.rate, 1))
	}
}

// measure measures the request rate in steps of half a second.
func (b *awsAdaptive) measure(now time.Time) {
	b.counted++
	half := now.Truncate(time.Second / 2)
	if half.After(b.counting) {
		b.measured = 0.8*float64(b.counted)/half.Sub(b.counting).Seconds() + 0.2*b.measured
		b.counted, b.counting = 0, half
	}
}

func (b *awsAdaptive) refill(now time.Time) {
	b.tokens = min(b.tokens+now.Sub(b.filled).Seconds()*b.rate, max(b.rate, 1))
	b.filled = now
}

func (b *awsAdaptive) pace(now time.Time) time.Duration {
	if !b.on {
		return 0
	}
	b.refill(now)
	if b.tokens >= 1 {
		b.tokens--
		return 0
	}
	return max(time.Duration((1-b.tokens)/b.rate*float64(time.Second)), time.Millisecond)
}

// finagle is Finagle's RetryBudget with its defaults: over the last 10 seconds, retries are at
// most 20 % of the requests plus 10 a second.
type finagle struct {
	deposits, withdrawals [finagleSeconds]int
	second                int64
}

const finagleSeconds = 10

func (b *finagle) requested(_, _, retry bool, _ int, now time.Time) {
	b.move(now)
	if !retry {
		b.deposits[b.second%finagleSeconds]++
	}
}

func (b *finagle) withdraw(_ policy.Failure, now time.Time) (int, bool) {
	b.move(now)
	balance := 10.0 * finagleSeconds
	for i := range finagleSeconds {
		balance += 0.2*float64(b.deposits[i]) - float64(b.withdrawals[i])
	}
	if balance < 1 {
		return 0, false
	}
	b.withdrawals[b.second%finagleSeconds]++
	return 0, true
}

func (*finagle) pace(time.Time) time.Duration { return 0 }

func (b *finagle) move(now time.Time) {
	second := now.Unix()
	for range min(second-b.second, finagleSeconds) {
		b.second++
		b.deposits[b.second%finagleSeconds], b.withdrawals[b.second%finagleSeconds] = 0, 0
	}
	b.second = second
}
