package gate

import (
	"maps"
	"slices"
	"time"

	"github.com/rebound-mq/rebound/events"
)

const (
	// voteSeconds is how many seconds of attempts a vote looks back: long enough for a
	// trickle of one attempt a second, short enough to end within seconds.
	voteSeconds = 10
	// leastAttempts is how many attempts a service needs in that time to have a vote.
	leastAttempts = 5
	// maxTallied bounds the services that a [Votes] remembers.
	maxTallied = 8 * events.MaxServices
)

// Votes counts the recent attempts of each service at one instance. The zero value is
// ready. It is for one goroutine at a time.
type Votes struct {
	services map[events.ServiceHash]*seconds
	// below excludes the services above this hash while there are too many; 0 excludes none.
	below events.ServiceHash
}

// seconds counts attempts second by second, in the slot of the second modulo their number.
type seconds [voteSeconds]struct {
	at                int64 // in Unix seconds
	succeeded, failed int
}

// Add counts an attempt if it says something of its target's health.
func (v *Votes) Add(service events.ServiceHash, r Result, now time.Time) {
	if r != Success && r != Failure || v.below > 0 && service > v.below {
		return
	}
	s := v.services[service]
	if s == nil {
		if len(v.services) >= maxTallied {
			v.prune(now)
		}
		if v.services == nil {
			v.services = make(map[events.ServiceHash]*seconds)
		}
		s = new(seconds)
		v.services[service] = s
	}
	at := now.Unix()
	slot := &s[uint64(at)%voteSeconds]
	if slot.at != at {
		slot.at, slot.succeeded, slot.failed = at, 0, 0
	}
	if r == Success {
		slot.succeeded++
	} else {
		slot.failed++
	}
}

// sum returns the counts of the last voteSeconds.
func (s *seconds) sum(now time.Time) (succeeded, failed int) {
	for _, slot := range s {
		if age := now.Unix() - slot.at; age >= 0 && age < voteSeconds {
			succeeded += slot.succeeded
			failed += slot.failed
		}
	}
	return succeeded, failed
}

// Counts returns the services with attempts in the last 10 seconds, in the order of their
// hashes, at most the first [events.MaxServices]. Every instance leaves out the same ones,
// so those that remain are a fair sample over all instances.
func (v *Votes) Counts(now time.Time) []events.ServiceAttempts {
	// Go 1.26 fails to compile maps.DeleteFunc here with the instrumentation for fuzzing.
	for service, s := range v.services {
		if succeeded, failed := s.sum(now); succeeded+failed == 0 {
			delete(v.services, service)
		}
	}
	hashes := slices.Sorted(maps.Keys(v.services))
	if len(hashes) < events.MaxServices {
		v.below = 0
	}
	counts := make([]events.ServiceAttempts, min(len(hashes), events.MaxServices))
	for i := range counts {
		counts[i].Service = hashes[i]
		counts[i].Succeeded, counts[i].Failed = v.services[hashes[i]].sum(now)
	}
	return counts
}

// prune forgets all services but those that [Votes.Counts] returns.
func (v *Votes) prune(now time.Time) {
	kept := v.Counts(now)
	if len(kept) < events.MaxServices {
		return
	}
	v.below = kept[len(kept)-1].Service
	maps.DeleteFunc(v.services, func(h events.ServiceHash, _ *seconds) bool { return h > v.below })
}

// CountVotes returns how many of the services have a vote, and how many of those say that
// they fail: at least the given share of their attempts did, 0 to 1. The counts are those
// of all instances together.
func CountVotes(services []events.ServiceAttempts, share float64) (voting, failing int) {
	for _, s := range services {
		all := s.Succeeded + s.Failed
		if all < leastAttempts {
			continue
		}
		voting++
		if share > 0 && float64(s.Failed) >= share*float64(all) {
			failing++
		}
	}
	return voting, failing
}
