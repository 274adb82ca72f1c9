package demo

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"
)

// mood is the target's behaviour for a while.
type mood string

// The moods, in the order in which a target fails and recovers.
const (
	healthy     mood = "healthy"
	down        mood = "down"
	unavailable mood = "unavailable"
	back        mood = "back"
	rateLimited mood = "rate limited"
	slow        mood = "slow"
	hanging     mood = "hanging"
	recovered   mood = "recovered"
)

// means says what a target does in each mood.
var means = map[mood]string{
	healthy:     "it takes what it gets",
	down:        "nobody listens on it",
	unavailable: "it fails every delivery with 503",
	back:        "it takes what it gets",
	rateLimited: "it answers 429 with Retry-After to what is too much",
	slow:        "it takes its time, now and then too much of it",
	hanging:     "it gives no answer to every fourth delivery",
	recovered:   "it takes what it gets",
}

// phase is a mood and its duration.
type phase struct {
	mood mood
	time time.Duration
}

// script is the sequence of the target's phases. It is repeated as long as there is something to
// submit; then the target stays in the last phase.
type script []phase

// defaultScript is the script of the demo: an outage, for which a breaker opens, and then briefly
// each of the lesser ills.
var defaultScript = script{
	{healthy, 2 * time.Second},
	{down, 3 * time.Second},
	{unavailable, 6 * time.Second},
	{back, 4 * time.Second},
	{rateLimited, 2 * time.Second},
	{slow, 1500 * time.Millisecond},
	{hanging, 1500 * time.Millisecond},
	{recovered, 4 * time.Second},
}

// failing is roughly the share of first deliveries that fail in a mood.
var failing = map[mood]float64{
	healthy: 0.06, down: 1, unavailable: 1, back: 0.06, rateLimited: 0.4, slow: 0.1, hanging: 0.25, recovered: 0.06,
}

// seeded returns the script with the duration of each phase changed by up to a sixth.
func (s script) seeded(seed uint64) script {
	random := rand.New(rand.NewPCG(seed, 0))
	out := make(script, len(s))
	for i, p := range s {
		out[i] = phase{p.mood, time.Duration(float64(p.time) * (5 + 2*random.Float64()) / 6)}
	}
	return out
}

// spareTime is the share of the script's failures that is left as a margin, so that chance does not
// make it begin anew.
const spareTime = 0.1

// pace returns the first deliveries a second at which so many fail before the target recovers for
// good.
func (s script) pace(operations int) float64 {
	fail := 0.0
	for _, p := range s[:len(s)-1] {
		fail += failing[p.mood] * p.time.Seconds()
	}
	return float64(operations) / (fail * (1 - spareTime))
}

// behaviour decides the target's answers. They depend only on the seed and the delivery, so that
// a run can be repeated.
type behaviour struct {
	seed uint64
	// timeout is how long an attempt waits for an answer.
	timeout time.Duration
}

// answer is the target's answer to one delivery.
type answer struct {
	// code is the error's code, empty if the webhook is accepted.
	code, text string
	retryAfter time.Duration
	// after is how long the answer takes; silent means that there is none.
	after  time.Duration
	silent bool
}

func (a answer) accepts() bool { return a.code == "" && !a.silent }

// answer returns the target's answer to an attempt at a webhook. spare reports whether a
// rate-limiting target takes one more now.
func (b behaviour) answer(m mood, id string, attempt int, spare bool) answer {
	chance := b.draw(id, string(m)+strconv.Itoa(attempt))
	switch {
	case m == unavailable:
		return answer{code: "503", text: "the database is restarting"}
	case m == rateLimited && !spare:
		return answer{code: "429", text: "too many deliveries", retryAfter: time.Duration(1+int(chance*2)) * time.Second}
	case m == hanging && chance < 0.25:
		return answer{silent: true}
	case b.draw(id, "webhook") < 0.03:
		// A fault of the webhook itself shows at every attempt that the target processes.
		return answer{code: "422", text: "the payload lacks a field that is required"}
	case m == slow && chance < 0.1:
		// Far enough from the timeout to be clearly late.
		return answer{after: b.timeout * 3 / 2}
	case m == slow:
		return answer{after: time.Duration(chance * 0.6 * float64(b.timeout))}
	case m != rateLimited && chance < 0.03:
		return answer{code: "503", text: "a worker was recycled"}
	}
	return answer{after: time.Duration(chance * float64(b.timeout) / 50)}
}

// draw returns a number in [0, 1) determined by the webhook and the question.
func (b behaviour) draw(id, about string) float64 {
	return float64(binary.BigEndian.Uint64(b.hash(id, about))>>11) / (1 << 53)
}

// deliveryID returns the id of the nth webhook, in the format of GitHub's deliveries.
func (b behaviour) deliveryID(n int) string {
	h := hex.EncodeToString(b.hash(strconv.Itoa(n), "delivery")[:16])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

func (b behaviour) hash(parts ...string) []byte {
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "%d", b.seed)
	for _, p := range parts {
		_, _ = fmt.Fprintf(h, " %d:%s", len(p), p)
	}
	return h.Sum(nil)
}
