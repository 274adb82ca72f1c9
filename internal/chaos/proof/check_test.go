package proof

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/rebound-mq/rebound/events"
)

const key = "load:op0"

var zero = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func at(ms int) time.Time { return zero.Add(time.Duration(ms) * time.Millisecond) }

// fine is a record without violations: one operation failed once and then succeeded, another was
// refused for good.
func fine() *Record {
	r := &Record{
		Kind: "test", Seed: 1, Drained: true, Bound: time.Minute,
		Limits: map[string]Limits{key: {MaxAttempts: 3, Concurrent: 2, Probes: 1, Budget: 5, Timeout: time.Second, Breaker: true}},
		Submissions: []Submission{
			{ID: "a", EventID: "1", Key: key, Payload: "payload", At: at(0), Stored: at(1)},
			{ID: "b", EventID: "2", Key: key, Payload: "payload", At: at(0), Stored: at(1), Doomed: true},
		},
		Attempts: []Attempt{
			{ID: "a", Key: key, Number: 2, Payload: "payload", At: at(101), End: at(103), Code: "503"},
			{ID: "a", Key: key, Number: 3, Payload: "payload", At: at(301), End: at(303)},
			{ID: "b", Key: key, Number: 2, Payload: "payload", At: at(101), End: at(103), Code: "404"},
		},
		Dead:      []DeadLetter{{ID: "b", Payload: "payload", Reason: events.ReasonNotRetryable, At: at(104)}},
		Instances: []Instance{{Name: "r1", Goroutines: 80, GoroutinesEnd: 90, Resident: 50 << 20, ResidentEnd: 80 << 20}},
	}
	r.Outcomes = []Published[events.Outcome]{outcome("a", 0, events.RetrySuccess, 304), outcome("b", 0, events.RetryFailed, 104)}
	r.Scheduled = []Published[events.Scheduled]{scheduled("a", 1, 5, 100), scheduled("a", 2, 104, 300), scheduled("b", 1, 5, 100)}
	return r
}

func outcome(id string, replay int, name string, ms int) Published[events.Outcome] {
	return Published[events.Outcome]{Event: events.Outcome{About: events.About{ID: id, Replay: replay}, Outcome: name, Attempts: 2}, At: at(ms)}
}

func scheduled(id string, attempt, ms, due int) Published[events.Scheduled] {
	delay := events.InMilliseconds(at(due).Sub(at(ms)))
	return Published[events.Scheduled]{Event: events.Scheduled{About: events.About{ID: id}, Attempt: attempt, Due: at(due), DelayMs: delay}, At: at(ms)}
}

func changed(from, to string, ms int) Published[events.BreakerChange] {
	return Published[events.BreakerChange]{Event: events.BreakerChange{Key: key, From: from, To: to, At: at(ms)}, At: at(ms)}
}

// pausedBefore pauses the key that long before its second attempt.
func pausedBefore(r *Record, ms int) {
	pattern, _ := events.ParsePattern(key)
	r.Pauses = []Pause{{Pattern: pattern, From: r.Attempts[1].At.Add(-time.Duration(ms) * time.Millisecond), To: at(5000)}}
	// The first attempt came before the pause.
	r.Attempts[0].Token, r.Attempts[2].Token = "a", "b"
}

// reaching makes every attempt that counts have to reach the target.
func reaching(r *Record) {
	l := r.Limits[key]
	l.Reached = true
	r.Limits[key] = l
}

// replayed adds a successful replay of the refused operation.
func replayed(r *Record) {
	r.Replays = []Replay{{ID: "b", Run: 0, At: at(400)}}
	r.Attempts = append(r.Attempts, Attempt{ID: "b", Key: key, Number: 1, Replay: 1, Payload: "payload", At: at(401), End: at(402)})
	r.Outcomes = append(r.Outcomes, outcome("b", 1, events.RetrySuccess, 403))
	r.Dead = nil
}

func TestCheck_FindsWhatIsBroken(t *testing.T) {
	// again repeats the i-th attempt at a time, modified by f.
	again := func(r *Record, i, ms int, f func(a *Attempt)) {
		a := r.Attempts[i]
		a.At, a.End = at(ms), at(ms+2)
		if f != nil {
			f(&a)
		}
		r.Attempts = append(r.Attempts, a)
	}
	for name, test := range map[string]struct {
		change func(r *Record)
		want   []Class
	}{
		"nothing is wrong": {func(*Record) {}, nil},

		"an acknowledged operation has no outcome and waits nowhere": {func(r *Record) { r.Outcomes = r.Outcomes[1:] }, []Class{Lost}},
		"an acknowledged operation was never heard of again": {func(r *Record) {
			r.Outcomes, r.Attempts, r.Scheduled = r.Outcomes[1:], r.Attempts[2:], r.Scheduled[2:]
		}, []Class{Lost}},
		"an operation that was never acknowledged is not heard of": {func(r *Record) {
			r.Submissions[0].Stored = time.Time{}
			r.Outcomes, r.Attempts, r.Scheduled = r.Outcomes[1:], r.Attempts[2:], r.Scheduled[2:]
		}, nil},
		"an operation that was never acknowledged was tried and has no outcome": {func(r *Record) {
			r.Submissions[0].Stored = time.Time{}
			r.Outcomes = r.Outcomes[1:]
		}, []Class{Lost}},
		"a replay that is stored never ran": {func(r *Record) { r.Replays = []Replay{{ID: "b"}}; r.Dead = nil }, []Class{Lost}},
		"a replay ran to its end":           {replayed, nil},
		"the first run of a replay has no outcome": {func(r *Record) {
			replayed(r)
			r.Outcomes = slices.Delete(r.Outcomes, 1, 2)
		}, []Class{Lost}},

		"an outcome is published twice": {func(r *Record) { r.Outcomes = append(r.Outcomes, r.Outcomes[0]) }, []Class{Doubled}},
		"both outcomes are published for one run": {func(r *Record) {
			r.Outcomes = append(r.Outcomes, outcome("a", 0, events.RetryFailed, 500))
		}, []Class{Doubled}},
		"both runs of a replay have an outcome": {replayed, nil},

		"a request comes while its key is paused": {func(r *Record) { pausedBefore(r, 1301) }, []Class{Unpaused}},
		"a request comes while its service is paused": {func(r *Record) {
			pausedBefore(r, 1301)
			r.Pauses[0].Pattern, _ = events.ParsePattern("load")
		}, []Class{Unpaused}},
		"a request comes while another key is paused": {func(r *Record) {
			pausedBefore(r, 1301)
			r.Pauses[0].Pattern, _ = events.ParsePattern("load:other")
		}, nil},
		"a request comes before all can know of the pause": {func(r *Record) { pausedBefore(r, 999) }, nil},
		"a request comes after the resumption":             {func(r *Record) { pausedBefore(r, 1301); r.Pauses[0].To = at(301) }, nil},
		"a worker's attempt comes while its key is paused": {func(r *Record) { pausedBefore(r, 1301); r.Attempts[1].Token = "t" }, nil},

		"an attempt counts that never reached the target": {func(r *Record) { reaching(r); r.Attempts = r.Attempts[1:] }, []Class{Wrong}},
		"an attempt counts that timed out at a target that had just left": {func(r *Record) {
			reaching(r)
			r.Attempts = r.Attempts[1:]
			for i := range r.Scheduled {
				r.Scheduled[i].Event.Error.Code = "timeout"
			}
		}, nil},
		"every attempt that counts reached the target": {reaching, nil},
		"so did those of a replay":                     {func(r *Record) { reaching(r); replayed(r) }, nil},

		"an attempt comes before it is due":                              {func(r *Record) { r.Attempts[1].At = at(270) }, []Class{Early}},
		"an attempt comes a little before it is due, as clocks are read": {func(r *Record) { r.Attempts[1].At = at(290) }, nil},
		"an attempt comes early because the breaker closed": {func(r *Record) {
			r.Attempts[1].At = at(250)
			r.Breakers = []Published[events.BreakerChange]{changed("HALF_OPEN", "CLOSED", 200)}
		}, nil},
		"an attempt comes early long after the breaker closed": {func(r *Record) {
			r.Attempts[1].At = at(250)
			r.Breakers = []Published[events.BreakerChange]{changed("HALF_OPEN", "CLOSED", -2000)}
		}, []Class{Early}},
		"an attempt comes early although another key's breaker closed": {func(r *Record) {
			r.Attempts[1].At = at(250)
			c := changed("HALF_OPEN", "CLOSED", 200)
			c.Event.Key = "load:other"
			r.Breakers = []Published[events.BreakerChange]{c}
		}, []Class{Early}},
		"a decision that is published twice counts with its earlier time": {func(r *Record) {
			r.Attempts[1].At = at(250)
			r.Scheduled = append(r.Scheduled, scheduled("a", 2, 105, 200))
		}, nil},

		"an attempt comes early, at the moment of the decision": {func(r *Record) { r.Attempts[1].At = at(104) }, []Class{Early}},
		"a repeat comes early, after an unpublished decision":   {func(r *Record) { r.Attempts[1].At, r.Attempts[1].Repeated = at(200), true }, nil},
		"an attempt comes before the published decision":        {func(r *Record) { r.Attempts[1].At, r.Attempts[1].End = at(80), at(81) }, nil},
		"an attempt comes early by this machine's clock, and the instance's was behind": {func(r *Record) {
			r.Skewed, r.Attempts[1].At, r.Scheduled[1].Event.Due, r.Scheduled[1].Event.DelayMs = true, at(200), at(-3000), 190
		}, []Class{Early}},
		"an attempt is in time by this machine's clock, and the instance's was ahead": {func(r *Record) {
			r.Skewed, r.Scheduled[1].Event.Due, r.Scheduled[1].Event.DelayMs = true, at(9000), 190
		}, nil},
		"an operation still waits when the bound is over": {func(r *Record) {
			r.Outcomes, r.Drained = r.Outcomes[1:], false
			r.Waiting = []Waiting{{ID: "a", Subject: "retry.held.normal.load.op0.a", Since: at(104)}}
		}, []Class{Stuck, Stuck}},
		"an operation that ended still stands in its slot": {func(r *Record) {
			r.Drained = false
			r.Waiting = []Waiting{{ID: "a", Subject: "retry.due.normal.load.op0.a", Since: at(104)}}
		}, []Class{Stuck, Stuck}},

		"an attempt is made again, unmarked": {func(r *Record) { again(r, 1, 310, nil) }, []Class{Unmarked}},
		"an attempt is made again, marked":   {func(r *Record) { again(r, 1, 310, func(a *Attempt) { a.Repeated = true }) }, nil},
		"an attempt is made again, and only the first is marked": {func(r *Record) {
			r.Attempts[1].Repeated = true
			again(r, 1, 900, func(a *Attempt) { a.Repeated = false })
		}, []Class{Unmarked}},
		"an attempt is made twice at once, and one is marked": {func(r *Record) {
			r.Attempts[1].Repeated = true
			again(r, 1, 310, func(a *Attempt) { a.Repeated = false })
		}, nil},
		"an attempt was on its way while its instance stood still": {func(r *Record) {
			r.Attempts[1].Repeated = true
			r.Faults = append(r.Faults, Fault{At: at(800), What: "instance r1 goes on"})
			again(r, 1, 900, func(a *Attempt) { a.Repeated = false })
		}, nil},
		"an attempt is made three times, and the last is unmarked": {func(r *Record) {
			again(r, 1, 310, func(a *Attempt) { a.Repeated = true })
			again(r, 1, 320, nil)
		}, []Class{Unmarked}},
		"the stream of work delivers one attempt twice": {func(r *Record) {
			r.Attempts[1].Token = "token"
			again(r, 1, 310, nil)
		}, nil},
		"a worker is given the same attempt anew, unmarked": {func(r *Record) {
			r.Attempts[1].Token = "token"
			again(r, 1, 310, func(a *Attempt) { a.Token = "another" })
		}, []Class{Unmarked}},
		"the same attempt of another run is no repeat": {func(r *Record) {
			replayed(r)
			r.Attempts[len(r.Attempts)-1].Number = 2
		}, nil},

		"an attempt is beyond what the policy allows":    {func(r *Record) { again(r, 1, 310, func(a *Attempt) { a.Number = 4 }) }, []Class{Excessive}},
		"an attempt is beyond what the operation allows": {func(r *Record) { r.Submissions[0].MaxAttempts = 2 }, []Class{Excessive}},
		"a run has more attempts that are no repeats than it may": {func(r *Record) {
			again(r, 1, 310, nil)
			again(r, 1, 320, nil)
		}, []Class{Unmarked, Unmarked, Excessive}},

		"success is published but was never answered":        {func(r *Record) { r.Attempts[1].Code = "503" }, []Class{Wrong}},
		"success is published but the target did not answer": {func(r *Record) { r.Attempts[1].Silent = true }, []Class{Wrong}},
		"failure is published after a success, without a fault": {func(r *Record) {
			r.Calm, r.Attempts[2].Code = true, ""
		}, []Class{Wrong}},
		"failure is published after a success that a fault may have withheld": {func(r *Record) { r.Attempts[2].Code = "" }, nil},
		"failure is published for attempts that never came, without a fault": {func(r *Record) {
			r.Calm, r.Attempts = true, r.Attempts[:2]
		}, []Class{Wrong}},
		"an outcome is neither of the two": {func(r *Record) { r.Outcomes[0].Event.Outcome = "maybe" }, []Class{Wrong}},

		"an outcome is published for an operation that nobody submitted": {func(r *Record) {
			r.Outcomes = append(r.Outcomes, outcome("x", 0, events.RetrySuccess, 304))
		}, []Class{Stranger}},
		"an attempt is made at an operation that nobody submitted": {func(r *Record) { again(r, 1, 310, func(a *Attempt) { a.ID = "x" }) }, []Class{Stranger}},
		"an operation waits that nobody submitted": {func(r *Record) {
			r.Drained, r.Waiting = false, []Waiting{{ID: "x", Subject: "retry.due.normal.load.op0.x"}}
		}, []Class{Stuck, Stranger}},

		"a payload is altered":                    {func(r *Record) { r.Attempts[1].Payload = "?" }, []Class{Altered}},
		"a dead letter's payload is altered":      {func(r *Record) { r.Dead[0].Payload = "" }, []Class{Altered}},
		"a dead letter cannot be read":            {func(r *Record) { r.Dead[0].Problem = "no state" }, []Class{BadLetter}},
		"a dead letter is missing":                {func(r *Record) { r.Dead = nil }, []Class{BadLetter}},
		"a run that succeeded has a dead letter":  {func(r *Record) { r.Dead = append(r.Dead, DeadLetter{ID: "a", Payload: "payload"}) }, []Class{BadLetter}},
		"a dead letter is there after its replay": {func(r *Record) { d := r.Dead; replayed(r); r.Dead = d }, []Class{BadLetter}},

		"more operations are in flight than may be": {func(r *Record) {
			again(r, 0, 102, func(a *Attempt) { a.Repeated = true })
		}, []Class{OverLimit}},
		"more operations are at workers than may be in flight": {func(r *Record) {
			again(r, 0, 102, func(a *Attempt) { a.Repeated, a.Token = true, "token" })
		}, nil},
		"an operation is in flight for longer than its timeout": {func(r *Record) {
			r.Attempts[0].End, r.Attempts[2].End = at(5000), at(5000)
			r.Attempts[1].At, r.Attempts[1].End = at(1500), at(1501)
		}, nil},
		"more attempts are made in a minute than the budget allows": {func(r *Record) {
			for i := range 3 {
				again(r, 1, 1000*(i+1), func(a *Attempt) { a.Repeated = true })
			}
		}, []Class{OverLimit}},
		"the attempts of two minutes are within the budget": {func(r *Record) {
			for i := range 3 {
				again(r, 1, 60_302+i*1000, func(a *Attempt) { a.Repeated = true })
			}
		}, nil},
		"more probes are in flight than may be": {func(r *Record) {
			r.Breakers = []Published[events.BreakerChange]{changed("OPEN", "HALF_OPEN", -100), changed("HALF_OPEN", "CLOSED", 200)}
		}, []Class{OverLimit}},
		"the breaker is not half-open any more": {func(r *Record) {
			r.Breakers = []Published[events.BreakerChange]{changed("OPEN", "HALF_OPEN", -300), changed("HALF_OPEN", "CLOSED", 90)}
		}, nil},

		"goroutines are left behind":      {func(r *Record) { r.Instances[0].GoroutinesEnd = 400 }, []Class{Leaked}},
		"goroutines have something to do": {func(r *Record) { r.Instances[0].GoroutinesEnd, r.Drained = 400, false }, []Class{Stuck}},
		"memory is not given back":        {func(r *Record) { r.Instances[0].ResidentEnd = 1 << 30 }, []Class{Leaked}},
		"a figure rises": {func(r *Record) {
			s := Series{Name: "files"}
			for i := range 100 {
				s.Points = append(s.Points, Point{at(1000 * i), 50 + float64(i)})
			}
			r.Series = []Series{s}
		}, []Class{Leaked}},
		"a process ended by itself":     {func(r *Record) { r.Exits = []Fault{{at(100), "r1 ended"}} }, []Class{Exited}},
		"what waits has not drained":    {func(r *Record) { r.Drained = false }, []Class{Stuck}},
		"an unacknowledged one is fine": {func(r *Record) { r.Submissions[0].Stored = time.Time{} }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := fine()
			test.change(r)
			found := Check(r)
			got := make([]Class, len(found))
			for i, v := range found {
				got[i] = v.Class
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("found %v, want %v: %+v", got, test.want, found)
			}
		})
	}
}

func TestCheck_CountsEachOperation(t *testing.T) {
	r := fine()
	for i := range 100 {
		r.Submissions = append(r.Submissions, Submission{ID: "lost-" + strconv.Itoa(i), Key: key, Stored: at(1)})
	}
	found := Check(r)
	if len(found) != 100 || found[0].Class != Lost || found[99].Class != Lost {
		t.Errorf("found %d violations, want 100 that are lost: %+v", len(found), found[:min(len(found), 3)])
	}
}
