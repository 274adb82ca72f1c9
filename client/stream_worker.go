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
	// Target is the subject to take operations from:
	// retry.work.<service>.<operation> when empty. A stream must capture it, but
	// for the default one, whose stream is made when there is none.
	Target string
	// Consumer is the name of the durable consumer that workers share,
	// <service>-<operation> when empty. It is made when it is not there.
	Consumer string
	// Concurrency is how many handlers run at once at most, 64 when 0.
	Concurrency int
}

func (c *StreamWorkerConfig) check(client *Client) error {
	c.Target = cmp.Or(c.Target, client.subjects.Work(c.Service, c.Operation))
	c.Consumer = cmp.Or(c.Consumer, c.Service+"-"+c.Operation)
	return client.checkWorker(c.Service, c.Operation, c.Target, &c.Concurrency)
}

// StreamWorker takes operations from a stream, works on them and reports to
// Rebound by itself: it is the target of operations whose delivery is
// [events.Publish]. While a handler runs, the worker says that it lives, to the
// stream and to Rebound, so that a handler may take as long as it needs. When the
// worker dies, the operation comes back once its attemptTimeout is over.
//
// A message that does not come from Rebound is a first attempt; one that fails is
// submitted, and so comes back to the stream.
//
// Several workers of one consumer share the operations. Delivery is at least once.
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

// ServeStream runs a stream worker until ctx ends, and returns when it has
// stopped, see [StreamWorker.Stop].
func (c *Client) ServeStream(ctx context.Context, config StreamWorkerConfig, handle Handler) error {
	w, err := c.StartStreamWorker(ctx, config, handle)
	if err != nil {
		return err
	}
	<-ctx.Done()
	return w.Stop(context.WithoutCancel(ctx))
}

// StartStreamWorker starts a stream worker and returns when its consumer is there.
// The worker must be stopped, and before its client is closed. The error is
// [ErrNoStream] when no stream captures the target.
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

// open finds the consumer, or makes it.
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

// makeStream makes the stream of the default targets as the service would, on as
// many servers as hold the submissions.
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

// Stats returns what the worker did since it was started.
func (w *StreamWorker) Stats() WorkerStats { return w.counts.stats() }

// Stop takes no more operations and waits for the handlers that are at work. When
// ctx ends, their contexts end, and they are waited for all the same; the error
// says so. What a handler fails at then is given back to the stream, for another
// worker to take.
func (w *StreamWorker) Stop(ctx context.Context) error {
	w.stopPull()
	return awaitHandlers(ctx, w.cancel, func() {
		w.pulling.Wait()
		w.handlers.Wait()
	})
}

const (
	// fetchWait is how long a pull waits for operations.
	fetchWait = 5 * time.Second
	// retryPause is the mean pause before a pull or a report is tried again.
	retryPause = 500 * time.Millisecond
)

// pull takes operations for as long as handlers are free.
func (w *StreamWorker) pull(ctx context.Context) {
	pace := backoff.Backoff{First: retryPause, Longest: retryPause}
	for ctx.Err() == nil {
		if err := w.fetch(ctx); err != nil && ctx.Err() == nil {
			w.client.log.Warn("operations could not be taken", "target", w.config.Target, "error", err)
			pace.Wait(ctx)
		}
	}
}

// fetch takes as many operations as there are free handlers.
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

// work works on one message until the stream need not keep it any more.
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
	beating.Go(func() { a.beat(ctx, m, w.ackWait, cancel) })

	returned := false
	conclude := func(err error) {
		over := errors.Is(context.Cause(ctx), ErrAttemptOver)
		if err != nil && w.ctx.Err() != nil {
			cancel(nil)
			beating.Wait()
			w.pulling.Wait() // or the message might be given to the pull that is about to end
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
		if !returned { // the handler's goroutine exits
			conclude(errors.New("the handler did not return"))
		}
	}()
	err := w.client.call(ctx, w.config.Target, a.request, w.handle)
	returned = true
	conclude(err)
}

// conclude reports how an attempt ended, or submits a first one that failed, and
// then lets the stream forget the message. What cannot be reported is worked on again.
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
		w.client.log.Error("how an attempt ended could not be reported; it is made again", "target", w.config.Target, "operation", a.request.ID, "error", err)
		w.giveBack(m, retryPause)
		return
	}
	w.done(m)
}

// done lets the stream forget a message. When that fails the message comes again,
// and is found to be stale.
func (w *StreamWorker) done(m jetstream.Msg) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.ctx), publishTimeout)
	defer cancel()
	if err := m.DoubleAck(ctx); err != nil {
		w.client.log.Warn("an acknowledgement was not confirmed", "target", w.config.Target, "error", err)
	}
}

// giveBack hands a message back to the stream.
func (w *StreamWorker) giveBack(m jetstream.Msg, after time.Duration) {
	if err := m.NakWithDelay(after); err != nil {
		w.client.log.Debug("a message could not be given back", "target", w.config.Target, "error", err)
	}
}
