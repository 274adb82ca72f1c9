package scheduler

import (
	"strings"
	"time"

	"github.com/rebound-mq/rebound/internal/shrink"
)

// index finds things by the names that others use for them: a service, or a key.
type index[V any] map[string]map[string]V

// namesOf returns by what names a key is depended on.
func namesOf(key string) []string {
	service, _, _ := strings.Cut(key, ":")
	return []string{service, key}
}

func (i index[V]) add(key string, v V, names []string) {
	for _, name := range names {
		if i[name] == nil {
			i[name] = make(map[string]V)
		}
		i[name][key] = v
	}
}

func (i index[V]) remove(key string, names []string) {
	for _, name := range names {
		if delete(i[name], key); len(i[name]) == 0 {
			delete(i, name)
		}
	}
}

// Forget drops the gates of the keys that were not used since a time, and returns
// how many. Those stay that have operations in hand or held, that pace their release,
// or that know of a budget which is stored nowhere else. The gate of a key that comes
// back is a new one: its breaker and the ledger of its limits tell it the rest.
func (g *Gates) Forget(since, now time.Time) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	forgotten := 0
	for key, k := range g.keys {
		if k.users.Load() > 0 || !k.idle(since, now) {
			continue
		}
		g.above.remove(key, k.noted)
		delete(g.keys, key)
		forgotten++
	}
	g.keys = shrink.Map(g.keys, forgotten)
	return forgotten
}
