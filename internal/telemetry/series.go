package telemetry

import "sync"

// Series keeps a value for each of a bounded number of keys, such as the labels of a key.
// All further keys share one value: anyone who publishes can invent keys, and each costs
// memory here and at Prometheus. It is safe for concurrent use.
type Series[K comparable, V any] struct {
	most  int
	make  func(K) *V
	other *V

	mu    sync.RWMutex // guards known
	known map[K]*V
}

// NewSeries returns a series of up to most keys. value makes their values and must be
// quick. The key other stands for all further keys.
func NewSeries[K comparable, V any](most int, other K, value func(K) *V) *Series[K, V] {
	o := value(other)
	return &Series[K, V]{most: most, make: value, other: o, known: map[K]*V{other: o}}
}

// Of returns the value of a key, the same one until it is forgotten. It allocates nothing
// for a known key.
func (s *Series[K, V]) Of(k K) *V {
	s.mu.RLock()
	v, full := s.known[k], len(s.known) > s.most
	s.mu.RUnlock()
	switch {
	case v != nil:
		return v
	case full:
		return s.other
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	v = s.known[k]
	switch {
	case v != nil:
		return v
	case len(s.known) > s.most: // other is one of them, and does not count
		return s.other
	}
	v = s.make(k)
	s.known[k] = v
	return v
}

// Forget drops the keys that idle reports, to make way for others, and returns them. The key
// other stays.
func (s *Series[K, V]) Forget(idle func(K, *V) bool) []K {
	s.mu.Lock()
	defer s.mu.Unlock()
	var forgotten []K
	for k, v := range s.known {
		if v != s.other && idle(k, v) {
			delete(s.known, k)
			forgotten = append(forgotten, k)
		}
	}
	return forgotten
}
