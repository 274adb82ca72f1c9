package demo

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rebound-mq/rebound/breaker"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/wording"
	"github.com/rebound-mq/rebound/scheduler"
	"github.com/rebound-mq/rebound/scheduler/gate"
)

// why says what the operations that have not ended wait for: what is held and by what, or else
// what is in flight, or else when the next attempt is due.
func (f frame) why() string {
	var words []string
	by := make(map[gate.Cause][]scheduler.KeyReport)
	for _, g := range f.standing.gates {
		cause := g.Cause
		if g.Governed && !g.Shut {
			cause = gate.CauseGovernor
		}
		if f.standing.held[g.Key] > 0 || g.Shut {
			by[cause] = append(by[cause], g)
		}
	}
	for _, cause := range slices.Sorted(maps.Keys(by)) {
		words = append(words, f.whyHeld(cause, by[cause]))
	}
	switch held, inFlight := f.standing.sums(); {
	case len(words) > 0:
	case inFlight > 0:
		words = append(words, fmt.Sprintf("%s in flight: the target has %s to answer", wording.Many(inFlight, "attempt"), attemptTimeout))
	case f.counts.Open == 0:
		words = append(words, "nothing waits")
	case !f.counts.NextDue.IsZero():
		words = append(words, fmt.Sprintf("%d wait for their next attempt, the first in %s", f.counts.Open-held, f.until(f.counts.NextDue)))
	default:
		words = append(words, fmt.Sprintf("%d are about to be taken up", f.counts.Open-held))
	}
	if f.standing.problem != "" {
		words = append(words, "the service does not say more: "+f.standing.problem)
	}
	return strings.Join(words, "; ")
}

// whyHeld says what the keys that one cause holds wait for.
func (f frame) whyHeld(cause gate.Cause, keys []scheduler.KeyReport) string {
	held, rate := 0, 0.0
	var names []string
	var next time.Time
	for _, k := range keys {
		held += f.standing.held[k.Key]
		rate += k.Rate
		names = append(names, k.Key)
		if k.Next.After(f.now) && (next.IsZero() || k.Next.Before(next)) {
			next = k.Next
		}
	}
	text := fmt.Sprintf("%d held: ", held)
	switch of := list(names); cause {
	case gate.CauseBreaker:
		text += fmt.Sprintf("the %s of %s %s open", wording.Plural(len(names), "breaker"), of, isOrAre(len(names)))
	case gate.CauseAbsent:
		text += "nobody listens on " + strings.ReplaceAll(of, ":", ".")
	case gate.CauseGovernor:
		return text + fmt.Sprintf("the governor lets %s out at %.0f a second", of, rate)
	case "":
		return text + of + " is about to be let out"
	default:
		text += of + ", " + keys[0].Reason()
	}
	if next.IsZero() {
		return text + ", a probe looks now"
	}
	text += ", next probe in " + f.until(next)
	if cause == gate.CauseAbsent {
		text += " or when somebody does"
	}
	return text
}

// until formats the time that is left.
func (f frame) until(t time.Time) string { return clock(max(t.Sub(f.now), 0)) }

func isOrAre(n int) string {
	if n == 1 {
		return "is"
	}
	return "are"
}

// list joins names as in a sentence.
func list(names []string) string {
	if n := len(names) - 1; n > 0 {
		return strings.Join(names[:n], ", ") + " and " + names[n]
	}
	return strings.Join(names, "")
}

// breakerHappening describes the change of a breaker.
func breakerHappening(at time.Duration, e events.BreakerChange) happening {
	h := happening{at: at, name: events.BreakerChanged, event: e.Key, sort: fmt.Sprint(e.Key, e.To, at)}
	next := ""
	if !e.NextAttemptTime.IsZero() {
		next = ", next probe in " + clock(e.NextAttemptTime.Sub(e.At))
	}
	last := ""
	if e.LastError != "" {
		last = ": " + e.LastError
	}
	switch {
	case e.To == breaker.HalfOpen.String():
		h.sort = e.To // one of these is enough
		h.text = "the breaker is half open: a probe looks whether the target is well"
	case e.To == breaker.Open.String() && e.From == breaker.Closed.String():
		h.text = fmt.Sprintf("the breaker OPENS after %s in a row%s%s", wording.Many(e.FailureCount, "failure"), last, next)
	case e.To == breaker.Open.String():
		h.text = "the probe failed, the breaker stays open" + last + next
	default:
		h.text = "the breaker CLOSES: the probes succeeded, and what it held is let out"
	}
	return h
}
