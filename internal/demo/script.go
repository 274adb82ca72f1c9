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
	rateLimited mood = "rate limited"
	slow        mood = "slow"
	recovered   mood = "recovered"
)

// phase is a mood and its duration.
type phase struct {
	mood mood
	time time.Duration
}

// script is the sequence of the target's phases. It is repeated as long as there is something to
// submit; then the target stays in the last phase.
type script []phase

// defaultScript is the script of the demo.
var defaultScript = script{
	{healthy, 3 * time.Second},
	{down, 3 * time.Second},
	{unavailable, 4 * time.Second},
	{rateLimited, 5 * time.Second},
	{slow, 4 * time.Second},
	{recovered, 5 * time.Second},
}

// failing is roughly the share of first deliveries that fail in a mood.
var failing = map[mood]float64{healthy: 0.03, down: 1, unavailable: 1, rateLimited: 0.6, slow: 0.2, recovered: 0.03}

// seeded returns the script with the duration of each phase changed by up to a sixth.
func (s script) seeded(seed uint64) script {
	random := rand.New(rand.NewPCG(seed, 0))
	out := make(script, len(s))
	for i, p := range s {
		out[i] = phase{p.mood, time.Duration(float64(p.time) * (5 + 2*random.Float64()) / 6)}
	}
	return out
}

// pace returns the first deliveries a second at which so many fail before the target gets better.
func (s script) pace(operations int) float64 {
	fail := 0.0
	for _, p := range s {
		if p.mood != slow && p.mood != recovered {
			fail += failing[p.mood] * p.time.Seconds()
		}
	}
	return float64(operations) / fail
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
	// A problem of the webhook itself shows at every attempt that the target processes.
	if m != unavailable && m != rateLimited || m == rateLimited && spare {
		switch own := b.draw(id, "webhook"); {
		case own < 0.03:
			return answer{code: "422", text: "the payload lacks a field that is required"}
		case own < 0.04:
			return answer{code: "500", text: "the handler of this event panicked"}
		}
	}
	chance := b.draw(id, string(m)+strconv.Itoa(attempt))
	switch m {
	case unavailable:
		if chance < 0.2 {
			return answer{silent: true}
		}
		return answer{code: "503", text: "the database is restarting"}
	case rateLimited:
		if !spare {
			wait := time.Duration(1+int(chance*3)) * time.Second
			return answer{code: "429", text: "too many deliveries", retryAfter: wait}
		}
	case slow:
		// Far enough from the timeout to be clearly in time or clearly late.
		if chance < 0.15 {
			return answer{after: b.timeout * 3 / 2}
		}
		return answer{after: time.Duration(chance * 0.7 * float64(b.timeout))}
	default:
		if chance < 0.03 {
			return answer{code: "503", text: "a worker was recycled"}
		}
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
