package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/time/rate"
)

// shedding is a target that refuses requests beyond its capacity.
type shedding struct {
	limit *rate.Limiter

	mu         sync.Mutex // guards the fields below
	began      time.Time
	perSecond  []int // attempts
	good, shed int
	working    sync.WaitGroup
}

// answerTime is how long the target takes for an accepted request.
const answerTime = 5 * time.Millisecond

func (s *shedding) handle(m *nats.Msg) {
	s.mu.Lock()
	if s.began.IsZero() {
		s.began = time.Now()
	}
	for second := int(time.Since(s.began).Seconds()); second >= len(s.perSecond); {
		s.perSecond = append(s.perSecond, 0)
	}
	s.perSecond[len(s.perSecond)-1]++
	ok := s.limit.Allow()
	if ok {
		s.good++
	} else {
		s.shed++
	}
	s.mu.Unlock()
	if !ok {
		answer := nats.NewMsg(m.Reply)
		answer.Header.Set("Nats-Service-Error-Code", "503")
		answer.Header.Set("Nats-Service-Error", "busy")
		_ = m.RespondMsg(answer)
		return
	}
	s.working.Go(func() {
		<-time.After(answerTime)
		_ = m.Respond(nil)
	})
}

// backlog holds n operations while their target is down, lets the target recover with a capacity
// that it defends, and measures how the operations are released.
func backlog(ctx context.Context, r *rig, n, capacity int) error {
	if err := r.start(ctx, breakerForAll); err != nil {
		return err
	}
	target := &shedding{limit: rate.NewLimiter(rate.Limit(capacity), capacity/20)}
	sub, err := r.nc.Subscribe("bench.op", target.handle)
	if err != nil {
		return err
	}
	defer func() {
		_ = sub.Unsubscribe()
		target.working.Wait()
	}()
	if err := r.operate("hold"); err != nil {
		return err
	}
	if err := r.fillLane(ctx, n); err != nil {
		return err
	}
	start := time.Now()
	if err := r.operate("reset"); err != nil {
		return err
	}
	ideal := time.Duration(n) * time.Second / time.Duration(capacity)
	if err := await(ctx, 10*ideal, func() bool { return r.messages(ctx, "RETRY") == 0 }); err != nil {
		return err
	}
	took := time.Since(start)
	target.mu.Lock()
	defer target.mu.Unlock()
	peak := 0
	for _, attempts := range target.perSecond {
		peak = max(peak, attempts)
	}
	fmt.Printf("  capacity %d/s: drained in %.1f s, %.2f of the ideal %.1f s; peak %d/s, %.2f of the capacity; %d refused, %.1f %%\n",
		capacity, took.Seconds(), took.Seconds()/ideal.Seconds(), ideal.Seconds(), peak, float64(peak)/float64(capacity),
		target.shed, 100*float64(target.shed)/float64(target.shed+target.good))
	return nil
}
