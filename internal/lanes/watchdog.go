package lanes

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/scheduler/gate"
)

const (
	// watchEvery is how often the watchdog looks at the keys that are known to hold
	// operations.
	watchEvery = time.Second
	// suspectAfter is after how long without a departure the watchdog notes the oldest held
	// operation of a key whose gate is open, and strandedAfter after how long the key is
	// stranded if that operation is still there. A working release takes less: one
	// operation goes each starvedFor, and a failure is tried again after failedPause.
	suspectAfter  = 3 * time.Second
	strandedAfter = 6 * time.Second
	// strandedShown is how long a warning outlives what it warns of.
	strandedShown = 10 * time.Minute
	// strandedNamed is how many stranded keys a warning names.
	strandedNamed = 5
)

// departures is what the watchdog knows of one key. It is guarded by Keys.mu.
type departures struct {
	held   gate.Lengths       // in the lanes, as last counted
	since  time.Time          // since when the gate is open and none has left; zero otherwise
	oldest uint64             // sequence of the oldest one when that became suspicious; 0 before
	cancel context.CancelFunc // ends the release in progress; nil if there is none
	found  time.Time          // when the key was last found stranded
}

// counted records how many operations the lanes of a key hold.
func (l *Lanes) counted(k *keyLanes, held gate.Lengths) {
	l.gates.SetHeld(k.service, k.operation, held, l.now())
	l.mu.Lock()
	k.departures.held = held
	l.mu.Unlock()
}

// departed records that operations of a key have left their lanes.
func (l *Lanes) departed(k *keyLanes, moved int) {
	if moved == 0 {
		return
	}
	l.gates.Released(k.service, k.operation, l.now())
	l.mu.Lock()
	k.departures.since, k.departures.oldest = time.Time{}, 0
	l.mu.Unlock()
}

// watch looks for stranded keys until ctx ends: keys whose gate is open while none of their
// held operations leaves. That must not happen, and if it does all the same, the key is
// released anew, whatever the release in progress waits for.
func (l *Lanes) watch(ctx context.Context) {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			l.watchOnce(ctx, l.now())
		}
	}
}

// watchOnce looks at every key that is known to hold operations.
func (l *Lanes) watchOnce(ctx context.Context, now time.Time) {
	for _, k := range l.suspects(now) {
		err := l.suspect(ctx, k, now)
		l.complain(ctx, "looking for stranded operations failed and will be retried", err)
	}
}

// suspects returns the keys whose gate has been open for suspectAfter without a departure.
func (l *Lanes) suspects(now time.Time) (suspects []*keyLanes) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range l.keys {
		d := &k.departures
		if d.held.Total() == 0 {
			d.since, d.oldest = time.Time{}, 0
			continue
		}
		switch quota, _ := l.quotaFor(k, d.held, now); {
		case quota.Shut:
			d.since, d.oldest = time.Time{}, 0
		case d.since.IsZero() || d.since.After(now):
			d.since = now
		case now.Sub(d.since) >= suspectAfter:
			suspects = append(suspects, k)
		}
	}
	return suspects
}

// suspect asks the stream's leader for the oldest held operation of a key. Other instances
// let operations of the key out too, so the key is stranded only if that one stays.
func (l *Lanes) suspect(ctx context.Context, k *keyLanes, now time.Time) error {
	oldest, err := l.oldest(ctx, k)
	switch {
	case err != nil:
		return err
	case oldest == 0:
		l.counted(k, gate.Lengths{})
		return nil
	}
	l.mu.Lock()
	d := &k.departures
	switch {
	case d.since.IsZero(): // some have left meanwhile
	case oldest != d.oldest && d.oldest != 0:
		d.since, d.oldest = now, 0
	case now.Sub(d.since) < strandedAfter:
		d.oldest = oldest
	default:
		defer l.reportStranded(k, d.held.Total(), now.Sub(d.since))
		d.since, d.oldest, d.found = now, 0, now
		k.look = true
		if d.cancel != nil {
			d.cancel()
		}
	}
	l.mu.Unlock()
	l.wake.Set()
	return nil
}

// reportStranded counts and logs a key that was found stranded.
func (l *Lanes) reportStranded(k *keyLanes, held int, since time.Duration) {
	l.stranded(k.service, k.operation)
	l.warnStranded.Do(func() {
		l.log.Warn("operations were held although the gate of their key was open; they are released now",
			"key", k.key(), "held", held, "for", since.Round(time.Second))
	})
}

// oldest returns the sequence of the oldest held operation of a key, as the stream's leader
// knows it; 0 when nothing is held.
func (l *Lanes) oldest(ctx context.Context, k *keyLanes) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, streams.CallTimeout)
	defer cancel()
	m, err := streams.LeaderGet(ctx, l.js, l.streams.Waiting(), streams.NextBySubject(1, l.subjects.Lanes(k.service, k.operation)))
	switch {
	case streams.IsGone(err):
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("looking for the oldest held operation of %s: %w", k.key(), err)
	}
	return m.Sequence, nil
}

// Problem names the keys that were lately found to hold operations although their gate was
// open. It is empty if there are none.
func (l *Lanes) Problem() string {
	now := l.now()
	l.mu.Lock()
	var names []string
	for _, k := range l.keys {
		if found := k.departures.found; !found.IsZero() && now.Sub(found) < strandedShown {
			names = append(names, events.Key(k.service, k.operation))
		}
	}
	l.mu.Unlock()
	if len(names) == 0 {
		return ""
	}
	slices.Sort(names)
	more := ""
	if rest := len(names) - strandedNamed; rest > 0 {
		names, more = names[:strandedNamed], fmt.Sprintf(" and of %d more keys", rest)
	}
	return fmt.Sprintf("operations of %s%s were held in the last %s although the gate was open; they were released by force", strings.Join(names, ", "), more, strandedShown)
}
