package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
	"github.com/nats-io/nuid"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/events/wire"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

// Handler does the work of a [Worker] or a [StreamWorker]. A nil error is success; other errors
// are read as in [Execute], and a panic is a failure. The context ends at the operation's
// deadline; a Worker also ends it after the policy's attemptTimeout, a StreamWorker with the
// cause [ErrAttemptOver] when the attempt is over. Handlers run concurrently.
type Handler func(ctx context.Context, r *Request) error

// WorkerConfig configures a [Worker]. Service and Operation are required.
type WorkerConfig struct {
	// Service and Operation make the key of the operations.
	Service, Operation string
	// Target is the subject to listen on, the policy's target when empty, which is
	// <service>.<operation> by default.
	Target string
	// Concurrency bounds the handlers that run at once, 64 when 0.
	Concurrency int
	// SubmitFailures makes the worker submit an operation whose first attempt fails, so that it
	// comes back. The requester still gets the error, with the operation's id in the header
	// Retry-Id. A failure that is not retryable is submitted only if no reply is expected; it
	// becomes a dead letter. A CloudEvent in structured mode is submitted unchanged: it comes
	// back to the policy's target, and its failure is not recorded.
	SubmitFailures bool
	// Version is the worker's semantic version, 0.0.0 when empty.
	Version string
}

// defaultConcurrency bounds the handlers that run at once unless configured.
const defaultConcurrency = 64

func (c *WorkerConfig) check(client *Client) error {
	policy := client.policies.Load().Resolve(policy.Query{Service: c.Service, Operation: c.Operation})
	c.Target = policy.TargetOf(c.Target, c.Service, c.Operation)
	c.Version = cmp.Or(c.Version, "0.0.0")
	return client.checkWorker(c.Service, c.Operation, c.Target, &c.Concurrency)
}

// checkWorker checks the configuration that every kind of worker has, and sets the default
// concurrency.
func (c *Client) checkWorker(service, operation, target string, concurrency *int) error {
	var errs []error
	for _, n := range []struct{ what, name string }{{"service", service}, {"operation", operation}} {
		if err := events.CheckName(n.name); err != nil {
			errs = append(errs, fmt.Errorf("%s %w", n.what, err))
		}
	}
	if err := c.subjects.CheckTarget(target); err != nil {
		errs = append(errs, err)
	}
	if *concurrency < 0 {
		errs = append(errs, fmt.Errorf("a concurrency of %d is negative", *concurrency))
	}
	*concurrency = cmp.Or(*concurrency, defaultConcurrency)
	return errors.Join(errs...)
}

// Worker is a NATS micro service that handles operations, new or redelivered. Workers with the
// same target share them. A Worker is safe for concurrent use.
type Worker struct {
	client *Client
	config WorkerConfig
	handle Handler
	micro  micro.Service
	counts counts

	ctx    context.Context // of the handlers
	cancel context.CancelFunc
	slots  chan struct{}

	mu       sync.Mutex // guards stopped, and keeps handlers from starting once it is true
	stopped  bool
	handlers sync.WaitGroup
}

// counts are a worker's figures in the statistics of NATS micro, whose own times do not include
// the handlers.
type counts struct {
	inFlight, succeeded, failed, submitted atomic.Int64
}

// Serve runs a worker until ctx ends, and returns when it has stopped (see [Worker.Stop]).
func (c *Client) Serve(ctx context.Context, config WorkerConfig, handle Handler) error {
	w, err := c.StartWorker(ctx, config, handle)
	if err != nil {
		return err
	}
	<-ctx.Done()
	return w.Stop(context.WithoutCancel(ctx))
}

// StartWorker starts a worker and returns once the server knows its subscription, or with an
// error when ctx ends first. Stop the worker before closing its client.
func (c *Client) StartWorker(ctx context.Context, config WorkerConfig, handle Handler) (*Worker, error) {
	if err := c.connected(); err != nil {
		return nil, err
	}
	if err := config.check(c); err != nil {
		return nil, fmt.Errorf("client: the worker: %w", err)
	}
	w := &Worker{client: c, config: config, handle: handle, slots: make(chan struct{}, config.Concurrency)}
	w.ctx, w.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if err := w.register(ctx); err != nil {
		w.cancel()
		return nil, fmt.Errorf("client: starting the worker of %s: %w", config.Target, err)
	}
	return w, nil
}

func (w *Worker) register(ctx context.Context) error {
	service, err := micro.AddService(w.client.nc, micro.Config{
		Name: w.config.Service, Version: w.config.Version, Description: "A worker of Rebound's operations " + w.config.Service + ":" + w.config.Operation,
		StatsHandler: func(*micro.Endpoint) any { return w.Stats() },
	})
	if err != nil {
		return err
	}
	w.micro = service
	err = service.AddEndpoint(w.config.Operation, micro.HandlerFunc(w.take), micro.WithEndpointSubject(w.config.Target))
	if err == nil {
		err = flush(ctx, w.client.nc)
	}
	if err != nil {
		return errors.Join(err, service.Stop())
	}
	return nil
}

// flush waits until the server has processed what was sent, at most for publishTimeout.
func flush(ctx context.Context, nc *nats.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	return nc.FlushWithContext(ctx)
}

// WorkerStats are a worker's counts since it was started.
type WorkerStats struct {
	// InFlight is the number of running handlers.
	InFlight int64 `json:"inFlight"`
	// Succeeded and Failed count finished attempts.
	Succeeded int64 `json:"succeeded"`
	Failed    int64 `json:"failed"`
	// Submitted counts the operations that the worker submitted.
	Submitted int64 `json:"submitted"`
}

// Stats returns the worker's counts since it was started, which `nats micro stats` shows as well.
func (w *Worker) Stats() WorkerStats { return w.counts.stats() }

func (c *counts) stats() WorkerStats {
	return WorkerStats{InFlight: c.inFlight.Load(), Succeeded: c.succeeded.Load(), Failed: c.failed.Load(), Submitted: c.submitted.Load()}
}

// Stop takes no more requests and waits for the running handlers. If ctx ends first, it cancels
// their contexts, still waits for them, and returns an error. Requests that had arrived but were
// not begun are answered with the error UNAVAILABLE, which is retryable.
func (w *Worker) Stop(ctx context.Context) error {
	err := w.micro.Stop()
	w.mu.Lock()
	w.stopped = true
	w.mu.Unlock()
	return errors.Join(err, awaitHandlers(ctx, w.cancel, w.handlers.Wait))
}

// awaitHandlers calls wait, which waits for the handlers of a worker. If ctx ends first, it
// cancels their contexts, still waits for them, and returns an error.
func awaitHandlers(ctx context.Context, cancel context.CancelFunc, wait func()) error {
	defer cancel()
	done := make(chan struct{})
	go func() {
		wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	cancel()
	<-done
	return fmt.Errorf("client: stopping the worker was cut off: %w", ctx.Err())
}

// errStopping is the failure of a request that arrived but was not begun before the worker
// stopped.
var errStopping = &Error{Code: "UNAVAILABLE", Message: "the worker is stopping"}

// take starts a handler for a request. It blocks while all slots are taken; later requests then
// wait in the connection's buffer.
func (w *Worker) take(m micro.Request) {
	r := newRequest(m.Subject(), nats.Header(m.Headers()), m.Data())
	r.replyTo = m.Reply()
	select {
	case w.slots <- struct{}{}:
	case <-w.ctx.Done():
		w.fail(r, errStopping)
		return
	}
	w.mu.Lock()
	stopped := w.stopped
	if !stopped {
		w.handlers.Go(func() {
			defer func() { <-w.slots }()
			w.work(r)
		})
	}
	w.mu.Unlock()
	if stopped {
		<-w.slots
		w.fail(r, errStopping)
	}
}

func (w *Worker) work(r *Request) {
	w.counts.inFlight.Add(1)
	defer w.counts.inFlight.Add(-1)
	returned := false
	defer func() {
		if !returned { // the handler called runtime.Goexit
			w.fail(r, errors.New("the handler did not return"))
		}
	}()
	err := w.call(r)
	returned = true
	if err != nil {
		w.fail(r, err)
		return
	}
	w.counts.succeeded.Add(1)
	w.answer(r, r.reply, r.body)
}

// call calls the handler within the policy's attemptTimeout.
func (w *Worker) call(r *Request) error {
	ctx := context.WithValue(w.ctx, attemptKey{}, r.Attempt)
	policy := w.client.policies.Load().Resolve(policy.Query{Service: w.config.Service, Operation: w.config.Operation})
	if policy.AttemptTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, policy.AttemptTimeout)
		defer cancel()
	}
	return w.client.call(ctx, w.config.Target, r, w.handle)
}

// call calls the handler of a worker until the operation's deadline. It returns a panic as an
// error.
func (c *Client) call(ctx context.Context, target string, r *Request, handle Handler) (err error) {
	if !r.Deadline.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, r.Deadline)
		defer cancel()
	}
	defer func() {
		if p := recover(); p != nil {
			panicked := newPanicError(p)
			c.log.Error("a handler panicked", "target", target, "operation", r.ID, "panic", panicked.Error(), "stack", string(panicked.Stack))
			err = panicked
		}
	}()
	return handle(ctx, r)
}

// fail answers with an error, and submits the operation if it should come back.
func (w *Worker) fail(r *Request, err error) {
	w.counts.failed.Add(1)
	f := failureOf(err)
	// The convention of NATS micro requires a code and a description.
	h := nats.Header{
		micro.ErrorCodeHeader: {cmp.Or(f.Code, codeInternal)},
		micro.ErrorHeader:     {cmp.Or(f.Message, "failed")},
	}
	if f.RetryAfter > 0 {
		h[events.HeaderRetryAfter] = []string{strconv.FormatFloat(math.Ceil(f.RetryAfter.Seconds()), 'f', -1, 64)}
	}
	if w.submits(r, f) {
		receipt, err := w.submit(r, f)
		if err == nil {
			w.counts.submitted.Add(1)
			h[events.HeaderID] = []string{receipt.ID}
		} else {
			w.client.log.Error("a failed operation could not be submitted", "target", w.config.Target, "error", err)
		}
	}
	w.answer(r, h, nil)
}

// codeInternal is the code of a failure that has none.
const codeInternal = "500"

// answer replies to a request, if a reply is expected. It does not use the micro request, which
// is invalid once its own handler has returned.
func (w *Worker) answer(r *Request, h nats.Header, data []byte) {
	if r.replyTo == "" {
		return
	}
	if err := w.client.nc.PublishMsg(&nats.Msg{Subject: r.replyTo, Header: h, Data: data}); err != nil {
		w.client.log.Warn("a request could not be answered", "target", w.config.Target, "operation", r.ID, "error", err)
	}
}

// submits reports whether the worker should submit a failed operation.
func (w *Worker) submits(r *Request, f policy.Failure) bool {
	if !w.config.SubmitFailures || r.Redelivered() {
		return false
	}
	inForce := w.client.policies.Load().Resolve(policy.Query{Service: w.config.Service, Operation: w.config.Operation})
	class, _ := inForce.Classify(w.config.Service, f, nil)
	return class == policy.Retryable || r.replyTo == ""
}

// submit submits the request as it came, together with its failure.
func (w *Worker) submit(r *Request, f policy.Failure) (Receipt, error) {
	return w.client.resubmit(context.WithoutCancel(w.ctx), w.config.Service, w.config.Operation, events.Request, r, f)
}

// resubmit submits an operation whose first attempt failed.
func (c *Client) resubmit(ctx context.Context, service, operation string, delivery events.Delivery, r *Request, f policy.Failure) (Receipt, error) {
	now := time.Now()
	m := nats.NewMsg(c.subjects.Submit(service, operation))
	m.Data, m.Header = r.Data, wire.CarriedHeader(r.Header)
	set := func(name, value string) {
		wire.SetHeader(m.Header, "ce-"+name, url.PathEscape(value))
	}
	if wire.HeaderValue(r.Header, "ce-id") == "" {
		set("id", cmp.Or(wire.HeaderValue(r.Header, jetstream.MsgIDHeader), nuid.Next()))
	}
	if wire.HeaderValue(r.Header, "ce-source") == "" {
		set("source", c.source)
	}
	set("target", r.Subject)
	if delivery != events.Request {
		set("delivery", string(delivery))
	}
	set("attempt", "1")
	set("firstfailure", now.UTC().Format(time.RFC3339Nano))
	set("errormessage", f.Message)
	if f.Code != "" {
		set("errorcode", cut(f.Code, events.MaxCode))
	}
	if f.RetryAfter > 0 {
		set("retryafter", now.Add(f.RetryAfter).UTC().Format(time.RFC3339Nano))
	}
	receipt, err := c.stamp(m, now)
	if err != nil {
		return Receipt{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, handOverTimeout)
	defer cancel()
	return c.store(ctx, m, receipt)
}
