package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/backoff"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

// StreamWorkerConfig configures a [StreamWorker]. Service and Operation are
// required.
type StreamWorkerConfig struct {
	// Service and Operation make the key of the operations.
	Service, Operation string
	// Target is the subject to take operations from, retry.work.<service>.<operation> when empty
	// (retry is the prefix). A stream must capture it; the stream of the default targets is
	// created if it is missing.
	Target string
	// Consumer is the name of the durable consumer that the workers share, <service>-<operation>
	// when empty. It is created if it is missing.
	Consumer string
	// Concurrency bounds the handlers that run at once, 64 when 0.
	Concurrency int
}

func (c *StreamWorkerConfig) check(client *Client) error {
	c.Target = cmp.Or(c.Target, client.subjects.Work(c.Service, c.Operation))
	c.Consumer = cmp.Or(c.Consumer, c.Service+"-"+c.Operation)
	return client.checkWorker(c.Service, c.Operation, c.Target, &c.Concurrency)
}

// StreamWorker takes operations from a stream, runs a handler for each and reports the result to
// Rebound: it is a target of operations whose delivery is [events.Publish]. While a handler runs,
// the worker sends heartbeats to the stream and to Rebound, so a handler may take as long as it
// needs. If the worker dies, the operation comes back after its attemptTimeout.
//
// A message that does not come from Rebound is a first attempt; if it fails it is submitted, and
// so comes back to the stream.
//
// Workers of the same consumer share the operations. Delivery is at least once. A StreamWorker is
// safe for concurrent use.
type StreamWorker struct {
	client   *Client
	config   StreamWorkerConfig
	handle   Handler
	consumer jetstream.Consumer
	ackWait  time.Duration
	counts   counts

	ctx      context.Context // of the handlers
	cancel   context.CancelFunc
	stopPull context.CancelFunc
	slots    chan struct{}
	pulling  sync.WaitGroup
	handlers sync.WaitGroup
}

// ServeStream runs a stream worker until ctx ends, and returns when it has stopped (see
// [StreamWorker.Stop]).
func (c *Client) ServeStream(ctx context.Context, config StreamWorkerConfig, handle Handler) error {
	w, err := c.StartStreamWorker(ctx, config, handle)
	if err != nil {
		return err
	}
	<-ctx.Done()
	return w.Stop(context.WithoutCancel(ctx))
}

// StartStreamWorker starts a stream worker and returns once its consumer exists. Stop the worker
// before closing its client. The error is [ErrNoStream] if no stream captures the target.
func (c *Client) StartStreamWorker(ctx context.Context, config StreamWorkerConfig, handle Handler) (*StreamWorker, error) {
	if err := c.connected(); err != nil {
		return nil, err
	}
	if err := config.check(c); err != nil {
		return nil, fmt.Errorf("client: the stream worker: %w", err)
	}
	w := &StreamWorker{client: c, config: config, handle: handle, slots: make(chan struct{}, config.Concurrency)}
	var err error
	if w.consumer, err = w.open(ctx); err != nil {
		return nil, fmt.Errorf("client: starting the worker of %s: %w", config.Target, err)
	}
	w.ackWait = w.consumer.CachedInfo().Config.AckWait
	w.ctx, w.cancel = context.WithCancel(context.WithoutCancel(ctx))
	pullCtx, stop := context.WithCancel(w.ctx)
	w.stopPull = stop
	w.pulling.Go(func() { w.pull(pullCtx) })
	return w, nil
}

// open finds or creates the consumer.
func (w *StreamWorker) open(ctx context.Context) (jetstream.Consumer, error) {
	js := w.client.js
	stream, err := js.StreamNameBySubject(ctx, w.config.Target)
	if errors.Is(err, jetstream.ErrStreamNotFound) && w.client.subjects.IsWork(w.config.Target) {
		stream, err = w.makeStream(ctx)
	}
	if err != nil {
		return nil, orNoStream(err)
	}
	consumer, err := js.Consumer(ctx, stream, w.config.Consumer)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		consumer, err = js.CreateOrUpdateConsumer(ctx, stream, jetstream.ConsumerConfig{
			Durable: w.config.Consumer, Description: "Workers of Rebound's operations " + w.config.Service + ":" + w.config.Operation,
			FilterSubject: w.config.Target, AckPolicy: jetstream.AckExplicitPolicy, MaxDeliver: -1,
		})
	}
	return consumer, err
}

// makeStream creates the stream of the default targets as the service would, with the replicas of
// the intake stream.
func (w *StreamWorker) makeStream(ctx context.Context) (string, error) {
	intake, err := w.client.js.Stream(ctx, w.client.streams.Intake())
	if err != nil {
		return "", err
	}
	config := streams.WorkConfig(w.client.streams, streams.Limits{Replicas: intake.CachedInfo().Config.Replicas})
	if _, err = w.client.js.CreateStream(ctx, config); err != nil && !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		return "", err
	}
	return config.Name, nil
}

// Stats returns the worker's counts since it was started.
func (w *StreamWorker) Stats() WorkerStats { return w.counts.stats() }

// Stop takes no more operations and waits for the running handlers. If ctx ends first, it cancels
// their contexts, still waits for them, and returns an error. Operations whose handlers then fail
// are given back to the stream for another worker.
func (w *StreamWorker) Stop(ctx context.Context) error {
	w.stopPull()
	return awaitHandlers(ctx, w.cancel, func() {
		w.pulling.Wait()
		w.handlers.Wait()
	})
}

const (
	// fetchWait bounds the wait of one pull for operations.
	fetchWait = 5 * time.Second
	// retryPause is the mean pause before a pull or a report is retried.
	retryPause = 500 * time.Millisecond
)

// pull takes operations whenever handlers are free.
func (w *StreamWorker) pull(ctx context.Context) {
	pace := backoff.Backoff{First: retryPause, Longest: retryPause}
	for ctx.Err() == nil {
		if err := w.fetch(ctx); err != nil && ctx.Err() == nil {
			w.client.log.Warn("operations could not be fetched", "target", w.config.Target, "error", err)
			pace.Wait(ctx)
		}
	}
}

// fetch takes at most as many operations as there are free slots for handlers.
func (w *StreamWorker) fetch(ctx context.Context) error {
	select {
	case w.slots <- struct{}{}:
	case <-ctx.Done():
		return nil
	}
	free := 1
	for more := true; more && free < cap(w.slots); {
		select {
		case w.slots <- struct{}{}:
			free++
		default:
			more = false
		}
	}
	defer func() {
		for range free {
			<-w.slots
		}
	}()
	fetchCtx, cancel := context.WithTimeout(ctx, fetchWait)
	defer cancel()
	batch, err := w.consumer.Fetch(free, jetstream.FetchContext(fetchCtx))
	if err != nil {
		return err
	}
	for m := range batch.Messages() {
		free--
		w.handlers.Go(func() {
			defer func() { <-w.slots }()
			w.work(m)
		})
	}
	if err := batch.Error(); err != nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// work runs the handler for one message and settles the message.
func (w *StreamWorker) work(m jetstream.Msg) {
	a := w.attempt(m)
	if a.stale(m) {
		w.done(m)
		return
	}
	w.counts.inFlight.Add(1)
	defer w.counts.inFlight.Add(-1)
	ctx, cancel := context.WithCancelCause(context.WithValue(w.ctx, attemptKey{}, a.request.Attempt))
	var beating sync.WaitGroup
	beating.Go(func() { a.heartbeat(ctx, m, w.ackWait, cancel) })

	returned := false
	conclude := func(err error) {
		over := errors.Is(context.Cause(ctx), ErrAttemptOver)
		if err != nil && w.ctx.Err() != nil {
			cancel(nil)
			beating.Wait()
			w.pulling.Wait() // otherwise the ending pull might receive the message again
			w.giveBack(m, 0)
			return
		}
		if !over {
			w.conclude(a, m, err)
		} else {
			w.counts.failed.Add(1)
			w.done(m)
		}
		cancel(nil)
		beating.Wait()
	}
	defer func() {
		if !returned { // the handler called runtime.Goexit
			conclude(errors.New("the handler did not return"))
		}
	}()
	err := w.client.call(ctx, w.config.Target, a.request, w.handle)
	returned = true
	conclude(err)
}

// conclude reports how an attempt ended, or submits a failed first attempt, and then removes the
// message from the stream. If that fails, the message is worked on again.
func (w *StreamWorker) conclude(a *streamAttempt, m jetstream.Msg, err error) {
	var f policy.Failure
	if err != nil {
		w.counts.failed.Add(1)
		f = failureOf(err)
	} else {
		w.counts.succeeded.Add(1)
	}
	switch {
	case a.reports():
		err = a.report(f, err != nil)
	case err != nil:
		if _, err = w.client.resubmit(context.WithoutCancel(w.ctx), w.config.Service, w.config.Operation, events.Publish, a.request, f); err == nil {
			w.counts.submitted.Add(1)
		}
	}
	if err != nil {
		w.client.log.Error("the result of an attempt could not be reported; the attempt will be repeated", "target", w.config.Target, "operation", a.request.ID, "error", err)
		w.giveBack(m, retryPause)
		return
	}
	w.done(m)
}

// done removes a message from the stream. If that fails, the message is redelivered and found
// stale.
func (w *StreamWorker) done(m jetstream.Msg) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.ctx), publishTimeout)
	defer cancel()
	if err := m.DoubleAck(ctx); err != nil {
		w.client.log.Warn("an acknowledgement was not confirmed", "target", w.config.Target, "error", err)
	}
}

// giveBack returns a message to the stream.
func (w *StreamWorker) giveBack(m jetstream.Msg, after time.Duration) {
	if err := m.NakWithDelay(after); err != nil {
		w.client.log.Debug("a message could not be given back", "target", w.config.Target, "error", err)
	}
}
