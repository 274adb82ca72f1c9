package breaker

import (
	"cmp"
	"context"
	"fmt"
	"slices"
)

// Counts is the number of breakers that the group knows, by state.
type Counts struct {
	Closed   int `json:"closed"`
	HalfOpen int `json:"halfOpen"`
	// Open includes those that are held.
	Open int `json:"open"`
	Held int `json:"held"`
}

// NotClosed counts the breakers that do not allow every attempt.
func (c Counts) NotClosed() int { return c.HalfOpen + c.Open }

// Worst returns up to most of the circuits for which want is true, worst first: held, open, half
// open, closed, and within these by failures. It counts all for which want is true. The circuits
// are the store's, where it has them; if the store fails they are as this instance knows them,
// and the error says so.
func (g *Group) Worst(ctx context.Context, most int, want func(*Circuit) bool) ([]Circuit, Counts, error) {
	var counts Counts
	var worst []Circuit
	for _, b := range g.all() {
		c := b.Circuit()
		if !want(&c) {
			continue
		}
		counts.add(&c)
		if worst = append(worst, c); len(worst) >= 2*most+chunkOfWorst {
			worst = firstWorst(worst, most)
		}
	}
	worst = firstWorst(worst, most)
	fresh, err := g.fresh(ctx, worst)
	return fresh, counts, err
}

// chunkOfWorst is how many circuits are gathered before all but the worst are dropped again.
const chunkOfWorst = 1000

func firstWorst(circuits []Circuit, most int) []Circuit {
	slices.SortFunc(circuits, func(a, b Circuit) int {
		return cmp.Or(cmp.Compare(b.badness(), a.badness()), cmp.Compare(b.TotalFailures, a.TotalFailures), cmp.Compare(a.ServiceKey, b.ServiceKey))
	})
	return circuits[:min(most, len(circuits))]
}

func (c *Counts) add(k *Circuit) {
	switch k.State {
	case Closed:
		c.Closed++
	case HalfOpen:
		c.HalfOpen++
	case Open:
		c.Open++
	}
	if k.Held {
		c.Held++
	}
}

// After returns up to most of the circuits for which want is true and whose keys sort after key,
// sorted by key. It counts all for which want is true, like [Group.Worst].
func (g *Group) After(ctx context.Context, key string, most int, want func(*Circuit) bool) ([]Circuit, Counts, error) {
	var counts Counts
	var circuits []Circuit
	for _, b := range g.all() {
		c := b.Circuit()
		if !want(&c) {
			continue
		}
		counts.add(&c)
		if c.ServiceKey > key && len(circuits) < most {
			circuits = append(circuits, c)
		}
	}
	fresh, err := g.fresh(ctx, circuits)
	return fresh, counts, err
}

// fresh returns the circuits as the store has them now, in the same order. Those that it lacks
// are returned unchanged.
func (g *Group) fresh(ctx context.Context, circuits []Circuit) ([]Circuit, error) {
	if !g.share.on() || len(circuits) == 0 {
		return circuits, nil
	}
	keys := make([]string, len(circuits))
	for i := range circuits {
		keys[i] = circuits[i].ServiceKey
	}
	read, err := g.store.Read(ctx, keys)
	if err != nil {
		return circuits, fmt.Errorf("breaker: reading the store: %w", err)
	}
	stored := make(map[string]Circuit, len(read))
	for _, c := range read {
		stored[c.ServiceKey] = c
	}
	for i := range circuits {
		if c, ok := stored[circuits[i].ServiceKey]; ok && c.Version > circuits[i].Version {
			circuits[i] = c
		}
	}
	return circuits, nil
}

// Find returns the circuit of a key from the store or, if it has none, as this instance knows it;
// ok is false if neither has one. If the store fails, the error says so.
func (g *Group) Find(ctx context.Context, key string) (c Circuit, ok bool, err error) {
	if g.share.on() {
		read, err := g.store.Read(ctx, []string{key})
		if err == nil && len(read) == 1 {
			return read[0], true, nil
		}
		if err != nil {
			c, ok = g.Known(key)
			return c, ok, fmt.Errorf("breaker: reading the store: %w", err)
		}
	}
	c, ok = g.Known(key)
	return c, ok, nil
}
