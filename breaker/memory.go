package breaker

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/rebound-mq/rebound/internal/notify"
)

// Memory is a [Store] within one process, for several instances in it, as in a simulation. A
// single instance needs none. It uses the clock of its callers.
type Memory struct {
	mu       sync.Mutex // guards the fields below
	circuits map[string]Circuit
	watchers map[*watcher]struct{}
}

// NewMemory returns an empty store.
func NewMemory() *Memory {
	return &Memory{circuits: map[string]Circuit{}, watchers: map[*watcher]struct{}{}}
}

// watcher is one call of Watch. It holds the latest circuit of each key that was not yet passed
// on.
type watcher struct {
	pending map[string]Circuit // guarded by Memory.mu
	wake    notify.Signal
}

// Apply implements [Store].
func (m *Memory) Apply(ctx context.Context, key string, e Event, now time.Time, s Settings) (Reply, error) {
	if err := ctx.Err(); err != nil {
		return Reply{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	c, ok := m.circuits[key]
	if !ok {
		c = NewCircuit(key)
	}
	r := Apply(c, e, now, s)
	if r.Written {
		m.circuits[key] = r.Circuit
		for w := range m.watchers {
			w.pending[key] = r.Circuit
			w.wake.Set()
		}
	}
	r.Circuit = r.Circuit.Clone()
	return r, nil
}

// Load implements [Store].
func (m *Memory) Load(ctx context.Context) ([]Circuit, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]Circuit, 0, len(m.circuits))
	for _, c := range m.circuits {
		all = append(all, c.Clone())
	}
	return all, nil
}

// Read implements [Store].
func (m *Memory) Read(ctx context.Context, keys []string) ([]Circuit, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var read []Circuit
	for _, key := range keys {
		if c, ok := m.circuits[key]; ok {
			read = append(read, c.Clone())
		}
	}
	return read, nil
}

// Forget implements [Store].
func (m *Memory) Forget([]string) {}

// Watch implements [Store].
func (m *Memory) Watch(ctx context.Context, ready func(), changed func(Circuit)) error {
	w := &watcher{pending: map[string]Circuit{}, wake: notify.NewSignal()}
	m.mu.Lock()
	m.watchers[w] = struct{}{}
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		delete(m.watchers, w)
		m.mu.Unlock()
	}()
	ready()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.wake:
		}
		for _, c := range m.drain(w) {
			changed(c)
		}
	}
}

func (m *Memory) drain(w *watcher) []Circuit {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []Circuit
	for _, c := range w.pending {
		all = append(all, c.Clone())
	}
	clear(w.pending)
	slices.SortFunc(all, func(a, b Circuit) int { return a.ChangedAt.Compare(b.ChangedAt) })
	return all
}

// Ping implements [Store].
func (m *Memory) Ping(ctx context.Context) (Pulse, error) {
	return Pulse{Epoch: "memory"}, ctx.Err()
}
