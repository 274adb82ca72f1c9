package client

import (
	"maps"
	"sync"
	"time"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/health"
	"github.com/rebound-mq/rebound/scheduler/gate"
)

// instances are the instances of the service, as they report themselves. The zero value knows
// none. It is safe for concurrent use.
type instances struct {
	mu    sync.Mutex // guards heard
	heard map[string]instance
}

// instance is what matters of the last report of an instance.
type instance struct {
	at           time.Time
	serving      bool
	store        string
	backpressure events.Backpressure
}

// instancesView is what the instances say together.
type instancesView struct {
	count    int    // how many there are
	trickles bool   // global backpressure slows failing keys to a trickle
	store    string // where they share breakers and limits, empty if unknown
}

// hear takes in a report. It returns whether the instance is new.
func (i *instances) hear(r *events.InstanceReport, now time.Time) (news bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if r.State == events.InstanceLeaving {
		delete(i.heard, r.ID)
		return false
	}
	_, known := i.heard[r.ID]
	if !known && len(i.heard) >= health.MaxInstances {
		return false
	}
	if i.heard == nil {
		i.heard = make(map[string]instance)
	}
	i.heard[r.ID] = instance{at: now, serving: r.State == events.InstanceServing, store: r.Store, backpressure: r.Backpressure}
	return !known
}

// view forgets the instances that are silent and returns what the others say. The one with the
// lowest id of those that serve decides, as it does in the service.
func (i *instances) view(now time.Time) (v instancesView) {
	i.mu.Lock()
	defer i.mu.Unlock()
	maps.DeleteFunc(i.heard, func(_ string, one instance) bool { return now.Sub(one.at) >= health.InstanceLease })
	leader := ""
	for id, one := range i.heard {
		v.count++
		if one.serving && (leader == "" || id < leader) {
			leader = id
		}
	}
	if leader != "" {
		b := i.heard[leader].backpressure
		v.trickles = b.On && gate.PressureCause(b.Cause) == gate.PressureFailures
		v.store = i.heard[leader].store
	}
	return v
}
