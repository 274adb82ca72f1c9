package natsconn_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rebound-mq/rebound/internal/natsconn"
	"github.com/rebound-mq/rebound/internal/testkit"
)

func TestEcho_MeasuresWhatAnAttemptTakesWithoutATarget(t *testing.T) {
	wire := testkit.Proxy(t, strings.TrimPrefix(testkit.Server(t).ClientURL(), "nats://"))
	nc := testkit.Connect(t, "nats://"+wire.Addr())
	var active atomic.Bool
	e := natsconn.NewEcho(nc, active.Load)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.Run(ctx)
	}()
	defer func() { cancel(); <-done }()
	if own := e.Own(); own != 0 {
		t.Errorf("before any attempt the own delay is %v, want none", own)
	}
	wire.Slow(300 * time.Millisecond)
	active.Store(true)
	testkit.Eventually(t, 10*time.Second, "the slow connection to show", func() bool { return e.Own() >= 300*time.Millisecond })
}
