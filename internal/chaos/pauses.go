//go:build linux

package chaos

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/chaos/proof"
)

// pause pauses a key, or every fifth time all of the service, until it is resumed.
func pause(ctx context.Context, o *operator) {
	pattern := o.aKey()
	if o.rng.IntN(5) == 0 {
		pattern = service
	}
	o.pause(ctx, pattern, 0)
}

// pauseFor pauses a key for a time.
func pauseFor(ctx context.Context, o *operator) {
	o.pause(ctx, o.aKey(), o.between(500*time.Millisecond, 5*time.Second))
}

// pause pauses a pattern for d, 0 for no end.
func (o *operator) pause(ctx context.Context, pattern string, d time.Duration) {
	o.h.note("pause of %s for %s", pattern, d.Round(time.Millisecond))
	o.unpaused(pattern, time.Now()) // this pause takes the place of one that may have lasted longer
	o.paused[pattern] = nil
	asked := time.Now()
	if !o.ask(ctx, "rebound.pause", map[string]any{"pattern": pattern, "forMs": events.InMilliseconds(d), "by": "chaos"}) {
		o.h.note("pause of %s was perhaps not made", pattern)
		return
	}
	p := &proof.Pause{From: time.Now()}
	p.Pattern, _ = events.ParsePattern(pattern)
	if d > 0 {
		p.To = asked.Add(d)
	}
	o.paused[pattern] = p
}

// resume ends one of the pauses.
func resume(ctx context.Context, o *operator) {
	all, dice := slices.Sorted(maps.Keys(o.paused)), o.rng.Uint64()
	if len(all) > 0 {
		o.resume(ctx, all[dice%uint64(len(all))])
	}
}

func (o *operator) resume(ctx context.Context, pattern string) {
	o.h.note("resumption of %s", pattern)
	o.unpaused(pattern, time.Now())
	delete(o.paused, pattern)
	if !o.ask(ctx, "rebound.resume", map[string]any{"pattern": pattern, "by": "chaos"}) {
		o.h.note("resumption of %s was not made, as of a pause that has ended by itself", pattern)
	}
}

// unpaused records the pause of a pattern, which is certain until then.
func (o *operator) unpaused(pattern string, at time.Time) {
	p := o.paused[pattern]
	if p == nil {
		return
	}
	if p.To.IsZero() || at.Before(p.To) {
		p.To = at
	}
	o.h.mu.Lock()
	defer o.h.mu.Unlock()
	o.h.record.Pauses = append(o.h.record.Pauses, *p)
	o.paused[pattern] = nil
}
