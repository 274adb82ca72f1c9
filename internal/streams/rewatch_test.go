package streams

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestRewatch_StartsAgainOnRequestAndAfterAPauseWhenBroken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r Rewatch
		r.Again()
		ctx, cancel := context.WithCancel(t.Context())
		var began, reported atomic.Int32
		broke := errors.New("broke off")
		done := make(chan struct{})
		go func() {
			defer close(done)
			r.Run(ctx, func(ctx context.Context) error {
				if began.Add(1) == 1 {
					return broke
				}
				<-ctx.Done()
				return nil
			}, func(err error) {
				if errors.Is(err, broke) {
					reported.Add(1)
				}
			})
		}()
		want := func(when string, watches int32) {
			t.Helper()
			synctest.Wait()
			if began.Load() != watches || reported.Load() != 1 {
				t.Errorf("%s %d watches have begun and %d were reported as broken, want %d and 1", when, began.Load(), reported.Load(), watches)
			}
		}
		want("at first", 1)
		time.Sleep(2 * rewatchPause)
		want("after the pause", 2)
		r.Again()
		want("after Again", 3)
		cancel()
		<-done
	})
}
