package opstore

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/rebound-mq/rebound/events"
)

const (
	// logBurialsEvery is how often dead letters are logged.
	logBurialsEvery = 10 * time.Second
	// burialLines is how many keys and reasons have a line each, burialKinds how many are
	// counted apart.
	burialLines = 5
	burialKinds = 1000
)

// burial is what dead letters have in common.
type burial struct {
	key    string
	reason events.Reason
}

// Burials counts dead letters and logs them now and then. It is safe for concurrent use.
type Burials struct {
	log *slog.Logger

	mu     sync.Mutex
	counts map[burial]int // since the last lines; guarded by mu
}

// NewBurials returns a count of dead letters that [Burials.Run] logs.
func NewBurials(log *slog.Logger) *Burials { return &Burials{log: log, counts: make(map[burial]int)} }

// add counts a dead letter.
func (b *Burials) add(key string, reason events.Reason) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	of := burial{key, reason}
	if _, known := b.counts[of]; !known && len(b.counts) >= burialKinds {
		of = burial{}
	}
	b.counts[of]++
}

// Run logs what was counted, every ten seconds and when ctx ends.
func (b *Burials) Run(ctx context.Context) {
	ticker := time.NewTicker(logBurialsEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			b.tell()
			return
		case <-ticker.C:
			b.tell()
		}
	}
}

// tell logs a line for each of the keys and reasons with the most dead letters, and one for all
// others.
func (b *Burials) tell() {
	b.mu.Lock()
	counts := b.counts
	b.counts = make(map[burial]int)
	b.mu.Unlock()
	most := slices.SortedFunc(maps.Keys(counts), func(a, b burial) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a.key, b.key), cmp.Compare(a.reason, b.reason))
	})
	others := 0
	for i, of := range most {
		if i >= burialLines || of == (burial{}) {
			others += counts[of]
			continue
		}
		b.log.Warn("operations were dead-lettered", "key", of.key, "reason", of.reason, "operations", counts[of])
	}
	if others > 0 {
		b.log.Warn("operations of other keys or for other reasons were dead-lettered too", "operations", others)
	}
}
