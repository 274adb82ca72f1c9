package opstore

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/backoff"
)

func TestBurials_AreLoggedByKeyAndReasonAFewLinesAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		b := NewBurials(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}})))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			b.Run(ctx)
		}()
		for range 500 {
			b.add("billing:charge", events.ReasonExhausted)
		}
		b.add("billing:charge", events.ReasonNotRetryable)
		backoff.Sleep(ctx, logBurialsEvery+time.Second)
		synctest.Wait()
		want := `level=WARN msg="operations were dead-lettered" key=billing:charge reason=exhausted operations=500
level=WARN msg="operations were dead-lettered" key=billing:charge reason=not_retryable operations=1
`
		if got := log.String(); got != want {
			t.Errorf("logged\n%swant\n%s", got, want)
		}
		log.Reset()
		for i := range 2 * burialKinds {
			b.add(fmt.Sprintf("k:%04d", i), events.ReasonDeadline)
		}
		cancel()
		<-ended
		others := fmt.Sprintf("level=WARN msg=\"operations of other keys or for other reasons were dead-lettered too\" operations=%d\n", 2*burialKinds-burialLines+1)
		if got := log.String(); strings.Count(got, "\n") != burialLines || !strings.HasSuffix(got, others) {
			t.Errorf("logged\n%swant %d lines, the last\n%s", got, burialLines, others)
		}
	})
}
