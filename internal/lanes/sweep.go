package lanes

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/backoff"
	"github.com/rebound-mq/rebound/internal/shrink"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/scheduler/gate"
)

const (
	// scanEvery is how often the lanes themselves are searched for keys, besides at start
	// and when the bucket was gone. A scan takes longer the more is held, so scans may take
	// at most scanShare of the time.
	scanEvery = 5 * time.Minute
	scanShare = 0.005
	// scanTimeout bounds one scan.
	scanTimeout = time.Minute
	// countEvery is how often the keys with a shut gate are counted, maxCounts how many at
	// once. A count takes longer the more is held, so counts may take at most countShare of
	// the time.
	countEvery = time.Second
	maxCounts  = 64
	countShare = 0.02
	// removalWeight is how many of maxLooks the removal of a marker counts for.
	removalWeight = maxLooks / 8
)

// sweeps looks for operations that other instances hold, and forgets idle keys, until ctx
// ends.
func (l *Lanes) sweeps(ctx context.Context) {
	ticker := time.NewTicker(l.markers.sweep)
	defer ticker.Stop()
	var scan time.Time // when the next is due
	for ctx.Err() == nil {
		l.sweep(ctx, time.Now())
		if began := time.Now(); !began.Before(scan) {
			err := l.scan(ctx)
			if err == nil {
				took := time.Since(began)
				scan = began.Add(max(scanEvery, time.Duration(float64(took)/scanShare)))
			}
			l.complain(ctx, "looking for held operations failed and will be retried", err)
		}
		select {
		case <-ctx.Done():
		case <-ticker.C:
		case <-l.markers.lost:
			scan = time.Time{}
		}
	}
}

// complain logs a failure that is retried, at most once every warnEvery.
func (l *Lanes) complain(ctx context.Context, what string, err error) {
	if err != nil && ctx.Err() == nil {
		l.warn.Do(func() { l.log.Warn(what, "error", err) })
	}
}

// sweep makes all marked keys be checked. If one request shows that nothing is held at all,
// it checks only those whose markers may be removed. It forgets keys that were idle for
// long.
func (l *Lanes) sweep(ctx context.Context, now time.Time) {
	names, last, changed, err := l.markers.list(ctx)
	l.complain(ctx, "reading the keys with lanes failed and will be retried", err)
	held, err := l.Count(ctx, "", "")
	l.complain(ctx, "counting held operations failed and will be retried", err)
	none := err == nil && held == 0
	for name := range names {
		service, operation, ok := strings.Cut(name, ".")
		if ok && events.CheckName(service) == nil && events.CheckName(operation) == nil {
			l.of(service, operation)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	before := len(l.keys)
	for key, k := range l.keys {
		gone := changed && l.markers.listed(k, names[k.name()], last, now)
		listed, known := l.markers.isListed(k)
		switch {
		case gone, listed && (!none || l.markers.removable(k, now)):
			k.look = true
		case listed:
		case k.departures.held.Total() > 0: // its gate counts them too, until they are counted anew
		case !known && !k.look && !k.releasing && now.Sub(k.used) > l.forgetAfter:
			delete(l.keys, key)
		}
	}
	l.keys = shrink.Map(l.keys, before-len(l.keys))
	l.wake.Set()
}

// counts counts what the keys with a shut gate hold, until ctx ends.
func (l *Lanes) counts(ctx context.Context) {
	for wait := countEvery; backoff.Sleep(ctx, wait); {
		began := time.Now()
		l.complain(ctx, "counting the held operations of a key failed and will be retried", l.countShut(ctx))
		wait = max(countEvery, time.Duration(float64(time.Since(began))/countShare))
	}
}

// countShut counts what the keys with a shut gate hold, the longest uncounted first. Those
// with an open gate are counted when they are released.
func (l *Lanes) countShut(ctx context.Context) error {
	for _, k := range l.uncounted(l.now()) {
		held, err := l.countEach(ctx, k)
		if err != nil {
			return err
		}
		l.counted(k, held)
	}
	return nil
}

// countEach returns how many operations of a key are held. Only a key of which some are costs
// more than one request.
func (l *Lanes) countEach(ctx context.Context, k *keyLanes) (held gate.Lengths, err error) {
	rest, err := l.Count(ctx, k.service, k.operation)
	for _, p := range events.Priorities {
		if err != nil || rest == 0 {
			break
		}
		var n uint64
		n, err = l.count(ctx, l.subjects.Lane(p, k.service, k.operation))
		held[p], rest = int(n), rest-min(n, rest)
	}
	return held, err
}

// uncounted returns up to maxCounts keys whose gate is shut and that are marked, or held
// operations when last counted: another instance may have removed the marker since.
func (l *Lanes) uncounted(now time.Time) []*keyLanes {
	l.mu.Lock()
	defer l.mu.Unlock()
	var shut []*keyLanes
	for _, k := range l.keys {
		_, known := l.markers.isListed(k)
		if (known || k.departures.held.Total() > 0) && !k.releasing && l.quota(k, events.Critical, now).Shut {
			shut = append(shut, k)
		}
	}
	slices.SortFunc(shut, func(a, b *keyLanes) int { return a.counted.Compare(b.counted) })
	shut = shut[:min(len(shut), maxCounts)]
	for _, k := range shut {
		k.counted = now
	}
	return shut
}

// scan finds the keys with operations in their lanes and marks them.
func (l *Lanes) scan(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, scanTimeout)
	defer cancel()
	if n, err := l.Count(ctx, "", ""); err != nil || n == 0 {
		return err
	}
	type key struct{ service, operation string }
	found := make(map[key]bool)
	for subject, err := range streams.Subjects(ctx, l.reading, l.streams.Waiting(), l.subjects.AllHeld()) {
		if err != nil {
			return err
		}
		if service, operation, ok := l.subjects.SplitHeld(subject); ok {
			found[key{strings.Clone(service), strings.Clone(operation)}] = true
		}
	}
	for f := range found {
		if err := l.markers.remark(ctx, l.of(f.service, f.operation)); err != nil {
			return err
		}
		l.Check(f.service, f.operation)
	}
	return nil
}

// unmark removes the marker of a key whose lanes were empty for a while. It asks the
// stream's leader twice: the second request finds what was held meanwhile, although the key
// seemed idle, and the key is marked again.
func (l *Lanes) unmark(ctx context.Context, k *keyLanes) error {
	if !l.markers.removable(k, time.Now()) {
		return nil
	}
	if err := l.looks.Acquire(ctx, removalWeight); err != nil {
		return err
	}
	defer l.looks.Release(removalWeight)
	ctx, cancel := context.WithTimeout(ctx, streams.CallTimeout)
	defer cancel()
	if err := k.marker.writing.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("removing the marker of %s: %w", k.key(), err)
	}
	defer k.marker.writing.Release(1)
	if held, err := l.oldest(ctx, k); held != 0 || err != nil {
		return err
	}
	if err := l.markers.remove(ctx, k); err != nil {
		l.complain(ctx, "removing the marker of a key without lanes failed and will be retried", err)
		return nil
	}
	held, err := l.oldest(ctx, k)
	if held != 0 || err != nil {
		return l.markers.write(ctx, k)
	}
	return nil
}
