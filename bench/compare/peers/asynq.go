package peers

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"
	"golang.org/x/sync/errgroup"

	"github.com/rebound-mq/rebound/bench/compare"
)

// roleAsynq is the process that submits to asynq and executes its tasks.
const roleAsynq = "asynq"

const (
	asynqTask  = "bench"
	asynqQueue = "default"
	// asynqSubmitters is how many submissions are under way at once. asynq cannot submit several
	// tasks in one round trip.
	asynqSubmitters = 32
	// asynqIdle is how long asynq pauses when its queue is empty.
	asynqIdle = 2 * time.Millisecond
	// asynqForward is how often asynq looks for tasks that are due. The shorter it is, the less it
	// finds at a time, which costs throughput; asynqForwardPaced keeps a load with a rate on time.
	asynqForward, asynqForwardPaced = 100 * time.Millisecond, 5 * time.Millisecond
)

// asynqPeer is asynq with one client and one server.
type asynqPeer struct {
	redis     asynq.RedisClientOpt
	workers   int
	record    *record
	client    *asynq.Client
	inspector *asynq.Inspector
	server    *asynq.Server
}

func openAsynq(ctx context.Context, s setup) (queue, error) {
	p := &asynqPeer{workers: s.Workers, redis: asynq.RedisClientOpt{
		Addr: s.Address,
		// With a connection for each submitter and worker none waits for another.
		PoolSize: asynqSubmitters + s.Workers,
	}}
	p.client, p.inspector = asynq.NewClient(p.redis), asynq.NewInspector(p.redis)
	return p, nil
}

func (p *asynqPeer) start(_ context.Context, r *record) error {
	forward := asynqForward
	if r.load.Rate > 0 {
		forward = asynqForwardPaced
	}
	p.record = r
	p.server = asynq.NewServer(p.redis, asynq.Config{
		Concurrency:              p.workers,
		DelayedTaskCheckInterval: forward,
		TaskCheckInterval:        asynqIdle,
		RetryDelayFunc:           p.retryDelay,
		LogLevel:                 asynq.ErrorLevel,
	})
	return p.server.Start(asynq.HandlerFunc(p.handle))
}

func (p *asynqPeer) retryDelay(_ int, _ error, t *asynq.Task) time.Duration {
	i, _, _ := compare.ReadPayload(t.Payload()) // handle has read it before
	return p.record.delay(i, time.Now())
}

func (p *asynqPeer) handle(ctx context.Context, t *asynq.Task) error {
	i, _, readable := compare.ReadPayload(t.Payload())
	failures, known := asynq.GetRetryCount(ctx)
	if !readable || !known {
		return fmt.Errorf("asynq brings a foreign task: %w", asynq.SkipRetry)
	}
	return p.record.execute(i, failures, time.Now())
}

func (p *asynqPeer) submit(ctx context.Context, from, to int, after delays) error {
	var next atomic.Int64
	next.Store(int64(from) - 1)
	group, ctx := errgroup.WithContext(ctx)
	for range min(asynqSubmitters, to-from) {
		group.Go(func() error {
			for i := int(next.Add(1)); i < to; i = int(next.Add(1)) {
				if err := p.enqueue(ctx, i, after); err != nil {
					return fmt.Errorf("task %d: %w", i, err)
				}
			}
			return nil
		})
	}
	return group.Wait()
}

func (p *asynqPeer) enqueue(ctx context.Context, i int, after delays) error {
	var options []asynq.Option
	if after != nil {
		options = append(options, asynq.ProcessIn(after(i)))
	}
	_, err := p.client.EnqueueContext(ctx, asynq.NewTask(asynqTask, p.record.load.Payload(i, time.Now())), options...)
	return err
}

func (p *asynqPeer) settled(context.Context, int) (bool, error) {
	info, err := p.inspector.GetQueueInfo(asynqQueue)
	if err != nil {
		return false, err
	}
	if info.Archived > 0 {
		return false, fmt.Errorf("asynq gave up %d tasks", info.Archived)
	}
	return info.Size == 0, nil
}

func (p *asynqPeer) stop() error {
	p.server.Shutdown()
	return nil
}
