package gate

import (
	"encoding/json"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestWindow_NeverHoldsMoreThanTheLimit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		length := rapid.SampledFrom([]time.Duration{time.Minute, time.Hour}).Draw(t, "length")
		limit := rapid.IntRange(1, 300).Draw(t, "limit")
		w, now := NewWindow(length), begin
		var taken []taking
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(length)/4).Draw(t, "pause")))
			n, next := w.Available(limit, now)
			if n == 0 {
				if !next.After(now) || next.After(now.Add(length+2*length/perWindow)) {
					t.Fatalf("with none available the next is %v after now, want it within the window and its thirtieth", next.Sub(now))
				}
				before, after := w, w
				if n, _ := before.Available(limit, next.Add(-1)); n != 0 {
					t.Fatalf("%d are available right before the next, want none", n)
				}
				if n, _ := after.Available(limit, next); n == 0 {
					t.Fatalf("none is available at the next")
				}
				continue
			}
			take := rapid.IntRange(1, n).Draw(t, "take")
			w.Take(take, now)
			taken = append(taken, taking{now, take})
		}
		if got := most(taken, length); got > limit {
			t.Fatalf("%d were taken within %v, want at most %d", got, length, limit)
		}
	})
}

func TestWindow_UnderEndlessLoadTheLimitIsSpentEveryWindowAndAThirtieth(t *testing.T) {
	w, total := NewWindow(time.Minute), 0
	for now := begin; now.Before(begin.Add(62 * time.Minute)); now = now.Add(100 * time.Millisecond) {
		n, _ := w.Available(200, now)
		w.Take(n, now)
		total += n
	}
	if total != 60*200 {
		t.Errorf("%d were taken in 62 minutes, want 200 in each 62 seconds, 12000", total)
	}
}

func TestWindow_WhatIsGivenBackCanBeTakenAgain(t *testing.T) {
	for name, c := range map[string]struct {
		back  int
		taken time.Time
		want  int
	}{
		"all of it":                    {10, at(0), 10},
		"a part":                       {4, at(0), 4},
		"no more than was taken":       {99, at(0), 10},
		"nothing of another time":      {4, at(5), 0},
		"nothing of long ago":          {4, at(-100), 0},
		"a negative number is nothing": {-4, at(0), 0},
	} {
		w := NewWindow(time.Minute)
		w.Take(10, at(0))
		w.GiveBack(c.back, c.taken, at(20))
		if n, _ := w.Available(10, at(20)); n != c.want {
			t.Errorf("%s: %d are available, want %d", name, n, c.want)
		}
	}
}

func TestWindow_ClockThatIsSetBackShutsNoBudgetForLonger(t *testing.T) {
	w := NewWindow(time.Minute)
	w.Take(10, at(3600))
	if n, next := w.Available(10, at(0)); n != 0 || next.After(at(62)) {
		t.Errorf("after the clock went back %d are available, next at %v, want none for at most 62 s", n, next)
	}
}

func TestWindow_SurvivesItsStore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, now := NewWindow(time.Minute), begin
		for range rapid.IntRange(0, 20).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(20*time.Second)).Draw(t, "pause")))
			w.Take(rapid.IntRange(0, 9).Draw(t, "take"), now)
		}
		b, err := json.Marshal(w)
		if err != nil {
			t.Fatal(err)
		}
		var got Window
		if err := json.Unmarshal(b, &got); err != nil || got != w {
			t.Fatalf("%s came back as %+v, error %v, want %+v", b, got, err, w)
		}
	})
}

func TestWindow_MergedWindowsCountWhatEitherCounts(t *testing.T) {
	a, b := NewWindow(time.Minute), NewWindow(time.Minute)
	a.Take(3, at(0))
	b.Take(4, at(30))
	a.Merge(b)
	for _, c := range []struct{ second, want float64 }{{30, 3}, {61, 3}, {62, 6}, {91, 6}, {92, 10}} {
		if n, _ := a.Available(10, at(c.second)); n != int(c.want) {
			t.Errorf("after %v s %d are available, want %v", c.second, n, c.want)
		}
	}
}

func FuzzWindowJSON(f *testing.F) {
	for _, s := range []string{
		`{"width":1000000000,"latest":1772366400,"counts":[1,2]}`, `{}`, `{"width":-1}`, `[]`, `{"width":1,"counts":[-1]}`,
		`{"width":1000000000,"latest":9223372036854775807,"counts":[4294967295,4294967295]}`, `{"width":9223372036854775807,"latest":-1,"counts":[0,0,5]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var w Window
		if json.Unmarshal(b, &w) != nil || w.width == 0 { // null leaves w unchanged
			return
		}
		written, err := json.Marshal(w)
		if err != nil {
			t.Fatal(err)
		}
		var again Window
		if err := json.Unmarshal(written, &again); err != nil || again != w {
			t.Errorf("%q is written as %s, which reads as %+v, %v; want %+v", b, written, again, err, w)
		}
		if n, _ := w.Available(5, begin); n > 5 || n < 0 {
			t.Errorf("%q leaves %d of 5", b, n)
		}
		w.Take(3, begin)
		if n, _ := w.Available(5, begin); n > 2 {
			t.Errorf("%q leaves %d of 5 after 3 were taken", b, n)
		}
	})
}
