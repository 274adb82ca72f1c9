package opstore

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/internal/streams"
)

// voters answers the requests of elections.
type voters struct {
	elected    time.Time
	alone      bool
	err        error
	asked      int
	reconnects uint64
}

func (v *voters) elections() *Elections {
	ask := func(context.Context) (*jetstream.StreamInfo, error) {
		v.asked++
		if v.alone {
			return new(jetstream.StreamInfo), v.err
		}
		return ledSince(v.elected), v.err
	}
	return NewElections(ask, time.Now, func() uint64 { return v.reconnects })
}

// ledSince is a leader's answer.
func ledSince(elected time.Time) *jetstream.StreamInfo {
	return &jetstream.StreamInfo{Cluster: &jetstream.ClusterInfo{LeaderSince: &elected}}
}

func TestElections_WhatWaitedBeforeTheLeaderIsDoubted(t *testing.T) {
	const unknown = time.Duration(-1)
	for says, c := range map[string]struct {
		elected, stored time.Duration // how long ago
		err             error
		want            bool
	}{
		"stored before the election":                   {0, time.Minute, nil, true},
		"stored long after it":                         {time.Minute, 0, nil, false},
		"stored after it, by clocks that are not even": {time.Second, 0, nil, true},
		"nobody knows of an election":                  {unknown, time.Hour, nil, false},
		"the leader cannot be asked":                   {unknown, 0, errors.New("no leader"), true},
	} {
		t.Run(says, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				now, v := time.Now(), &voters{err: c.err}
				if c.elected != unknown {
					v.elected = now.Add(-c.elected)
				}
				if got := v.elections().Doubts(t.Context(), now.Add(-c.stored), now); got != c.want {
					t.Errorf("doubts = %v, want %v", got, c.want)
				}
			})
		})
	}
}

func TestElections_OneQuestionServesAllThatCameBeforeIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &voters{elected: time.Now()}
		e := v.elections()
		first := time.Now()
		time.Sleep(time.Millisecond)
		for range 10 {
			e.Doubts(t.Context(), first, first)
		}
		if v.asked != 1 {
			t.Errorf("10 questions of the same moment were asked %d times, want once", v.asked)
		}
		time.Sleep(time.Second)
		later := time.Now()
		v.elected = later
		time.Sleep(time.Millisecond)
		if e.Doubts(t.Context(), later.Add(-streams.ClockSlack/2), time.Time{}); v.asked != 1 {
			t.Error("a question of no moment was asked, want that it goes by what is known")
		}
		if !e.Doubts(t.Context(), later.Add(-streams.ClockSlack/2), later) || v.asked != 2 {
			t.Errorf("a later question was asked %d times in all, want that it hears of the new leader by a second", v.asked)
		}
		e.Heard(time.Now().Add(time.Second), ledSince(first))
		if !e.Doubts(t.Context(), later.Add(-streams.ClockSlack/2), time.Time{}) {
			t.Error("the word of a server that led before counts, want the latest election to")
		}
	})
}

func TestElections_ServerAloneIsDoubtedWhenItCameBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &voters{alone: true}
		e := v.elections()
		stored := time.Now()
		time.Sleep(time.Minute)
		for range 3 {
			time.Sleep(time.Millisecond)
			if e.Doubts(t.Context(), stored, time.Now().Add(-time.Nanosecond)) {
				t.Error("what a server alone shows is doubted, want not before it was away")
			}
		}
		if v.asked > 1 {
			t.Errorf("a server alone was asked %d times, want once", v.asked)
		}
		v.reconnects++
		if !e.Doubts(t.Context(), stored, time.Now()) {
			t.Error("what a server shows that was away is not doubted")
		}
	})
}
