package proof

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// moment is one line of a story.
type moment struct {
	at   time.Time
	text string
}

// story collects what happened to one operation.
type story struct {
	id  string
	all []moment
}

func (s *story) add(at time.Time, format string, args ...any) {
	s.all = append(s.all, moment{at, fmt.Sprintf(format, args...)})
}

// Story returns everything that happened to one operation, and the faults around it, in order.
func (r *Record) Story(id string) []string {
	s := &story{id: id}
	s.submissions(r.Submissions)
	s.attempts(r.Attempts)
	s.events(r)
	s.rest(r)
	sortMoments(s.all)
	s.faults(r.Faults)
	sortMoments(s.all)
	lines := make([]string, len(s.all))
	for i, m := range s.all {
		lines[i] = clock(m.at) + "  " + m.text
	}
	return lines
}

func (s *story) submissions(all []Submission) {
	for _, sub := range all {
		if sub.ID != s.id {
			continue
		}
		s.add(sub.At, "submitted as event %s of %s, doomed %t", sub.EventID, sub.Key, sub.Doomed)
		if !sub.Stored.IsZero() {
			s.add(sub.Stored, "acknowledged")
		}
	}
}

func (s *story) attempts(all []Attempt) {
	for _, a := range all {
		if a.ID != s.id {
			continue
		}
		answer := cmp.Or(a.Code, "success")
		if a.Silent {
			answer = "nothing"
		}
		s.add(a.At, "attempt %d of run %d, repeated %t, answered %s %s later %.6s", a.Number, a.Replay, a.Repeated, answer, a.End.Sub(a.At).Round(time.Millisecond), a.Token)
	}
}

// events adds the published events.
func (s *story) events(r *Record) {
	for _, e := range r.Scheduled {
		if e.Event.ID == s.id {
			s.add(e.At, "published: retryScheduled after attempt %d of run %d (%s), due %s", e.Event.Attempt, e.Event.Replay, e.Event.Error.Code, clock(e.Event.Due))
		}
	}
	for _, o := range r.Outcomes {
		if o.Event.ID == s.id {
			s.add(o.At, "published: %s of run %d after %d attempts %s, message %d", o.Event.Outcome, o.Event.Replay, o.Event.Attempts, o.Event.Reason, o.Sequence)
		}
	}
}

// rest adds where the operation remains, and its replays.
func (s *story) rest(r *Record) {
	for _, d := range r.Dead {
		if d.ID == s.id {
			s.add(d.At, "dead letter of run %d, %s", d.Replay, d.Reason)
		}
	}
	for _, p := range r.Replays {
		if p.ID == s.id {
			s.add(p.At, "replay of run %d is stored", p.Run)
		}
	}
	for _, w := range r.Waiting {
		if w.ID == s.id {
			s.add(w.Since, "stands on %s, due %s", w.Subject, clock(w.Due))
		}
	}
}

// faults adds the faults around the story, which must be sorted.
func (s *story) faults(all []Fault) {
	if len(s.all) == 0 {
		return
	}
	from, to := s.all[0].at.Add(-time.Second), s.all[len(s.all)-1].at.Add(10*time.Second)
	for _, f := range all {
		if f.At.After(from) && f.At.Before(to) {
			s.add(f.At, "-- %s", f.What)
		}
	}
}

func sortMoments(all []moment) {
	slices.SortStableFunc(all, func(a, b moment) int { return a.at.Compare(b.at) })
}
