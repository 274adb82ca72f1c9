package opstore

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func TestPersister_PausesByWhatTheAnswerProves(t *testing.T) {
	const ms = time.Millisecond
	for says, c := range map[string]struct {
		errs []error
		want []time.Duration
	}{
		"another write is in process, which is soon over": {[]error{apiError(10164), apiError(10164), apiError(10164)}, []time.Duration{5 * ms, 10 * ms, 20 * ms}},
		"the server is away": {
			[]error{nats.ErrNoResponders, nats.ErrNoResponders, nats.ErrNoResponders, nats.ErrNoResponders, nats.ErrNoResponders, nats.ErrNoResponders, nats.ErrNoResponders},
			[]time.Duration{50 * ms, 100 * ms, 200 * ms, 400 * ms, 800 * ms, 1600 * ms, 2000 * ms},
		},
		"both, by turns": {[]error{nats.ErrNoResponders, apiError(10164), nats.ErrNoResponders}, []time.Duration{50 * ms, 10 * ms, 100 * ms}},
	} {
		t.Run(says, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := NewPersister(NewStorage(nil, nil), slog.New(slog.DiscardHandler), func() float64 { return 0.5 })
				tries, last := 0, time.Now()
				err := p.Persist(t.Context(), "trying", func(context.Context) error {
					if tries > 0 && time.Since(last) != c.want[tries-1] {
						t.Errorf("pause %d is %s, want %s", tries, time.Since(last), c.want[tries-1])
					}
					tries, last = tries+1, time.Now()
					if tries <= len(c.errs) {
						return c.errs[tries-1]
					}
					return nil
				})
				if err != nil || tries != len(c.errs)+1 {
					t.Errorf("%d tries ended with %v, want %d and success", tries, err, len(c.errs)+1)
				}
			})
		})
	}
}
