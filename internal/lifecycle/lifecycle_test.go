package lifecycle

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestLifecycle_WaitsForWhatDrainsThenEndsTheRestThenCleansUpLastFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New()
		var order []string
		note := func(what string) func() { return func() { order = append(order, what) } }
		l.Cleanup(note("first cleanup"))
		l.Cleanup(note("last cleanup"))
		l.Start([]Runner{
			{Drains: true, Run: func(ctx context.Context) {
				<-l.draining
				time.Sleep(time.Second) // the time for what is in hand
				if ctx.Err() == nil {
					note("drained")()
				}
			}},
			{Run: func(ctx context.Context) {
				<-ctx.Done()
				note("ended")()
			}},
		})
		if err := l.End(t.Context()); err != nil {
			t.Errorf("the end says %v, want nil", err)
		}
		if want := []string{"drained", "ended", "last cleanup", "first cleanup"}; !slices.Equal(order, want) {
			t.Errorf("the end came as %q, want %q", order, want)
		}
		l.During(func() { t.Error("a request is begun after the end") })
		if err := l.End(t.Context()); err != nil || len(order) != 4 {
			t.Errorf("a second end says %v and does %q, want nothing", err, order[4:])
		}
	})
}

func TestLifecycle_CutsOffWhatDrainsTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New()
		cleaned := false
		l.Cleanup(func() { cleaned = true })
		l.Start([]Runner{{Drains: true, Run: func(ctx context.Context) { <-ctx.Done() }}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := l.End(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the end says %v, want that its time was over", err)
		}
		if !cleaned {
			t.Error("what was cut off is not cleaned up")
		}
	})
}

func TestLifecycle_WaitsForTheRequestsThatWereBegun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New()
		done := false
		go l.During(func() { time.Sleep(time.Second); done = true })
		synctest.Wait()
		if err := l.End(t.Context()); err != nil || !done {
			t.Errorf("the end came with %v while a request was under way", err)
		}
	})
}
