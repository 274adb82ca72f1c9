package inbox

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// Inbox makes requests over a connection. The replies to all of them come to one subscription,
// and what a request needs while it waits is used again by later ones, so a request costs less
// than by the client library. It also ends a request at once that the server denies: the server
// reports a missing permission apart from any reply, naming only the subject. It is safe for
// concurrent use.
type Inbox struct {
	nc     *nats.Conn
	prefix string // of the subjects of replies
	// idle holds calls to be used again.
	idle sync.Pool

	mu    sync.Mutex
	last  uint64           // token of the last request; guarded by mu
	calls map[uint64]*call // requests in flight by their token; guarded by mu
}

// call is a request whose reply is awaited.
type call struct {
	// ended receives how the call ended, once. Whoever takes the call out of [Inbox.calls]
	// sends, so nothing arrives after that.
	ended   chan ending
	timer   *time.Timer
	timeout time.Duration

	// The fields below are guarded by the mutex of the inbox while the call is in flight.
	token   uint64
	subject string
	due     time.Time     // when the timer ends the wait
	late    time.Duration // how much later the wait may still end because the timer was late
	sequel  *sequel       // nil once it is published
	first   *nats.Msg     // the reply that the sequel followed
}

// sequel is a message to be published when the reply to another has come.
type sequel struct {
	msg *nats.Msg
	// follows reports whether that reply is one that it may follow.
	follows func(reply *nats.Msg) bool
}

// ending is how a call ended.
type ending struct {
	reply *nats.Msg
	err   error
}

// Open subscribes to the replies of requests. stop ends the subscription; requests in
// flight then time out.
func Open(nc *nats.Conn) (inbox *Inbox, stop func(), err error) {
	i := &Inbox{nc: nc, prefix: nc.NewInbox() + ".", calls: make(map[uint64]*call)}
	i.idle.New = func() any {
		timer := time.NewTimer(time.Hour)
		timer.Stop()
		return &call{ended: make(chan ending, 1), timer: timer}
	}
	sub, err := nc.Subscribe(i.prefix+"*", i.receive)
	if err != nil {
		return nil, nil, fmt.Errorf("subscribing to the replies of requests: %w", err)
	}
	next := nc.ErrorHandler()
	nc.SetErrorHandler(func(on *nats.Conn, sub *nats.Subscription, err error) {
		if on == nc && i.deny(err) {
			return
		}
		if next != nil {
			next(on, sub, err)
		}
	})
	return i, func() {
		nc.SetErrorHandler(next)
		_ = sub.Unsubscribe() // it fails if the connection is closed, which ends it too
	}, nil
}

// Request publishes msg, whose Reply it sets, and waits for the reply: until timeout has passed,
// when the error is [context.DeadlineExceeded], or ctx ends. If this process stood still when the
// timeout passed, it waits that much longer, up to twice the timeout in all. It returns
// [nats.ErrNoResponders] if nobody listens, and an error that is [nats.ErrPermissionViolation] if
// the server denies the publish.
func (i *Inbox) Request(ctx context.Context, msg *nats.Msg, timeout time.Duration) (*nats.Msg, error) {
	_, end := i.request(ctx, msg, nil, timeout)
	return end.reply, end.err
}

// request is [Inbox.Request] with a sequel, unless that is nil: if the reply is one that it may
// follow, it is published at once, and its reply is awaited in the same way. first is the reply
// to msg if it was, and end is then how the sequel ended.
func (i *Inbox) request(ctx context.Context, msg *nats.Msg, then *sequel, timeout time.Duration) (first *nats.Msg, end ending) {
	if err := ctx.Err(); err != nil {
		return nil, ending{err: err}
	}
	c := i.idle.Get().(*call)
	defer i.idle.Put(c)
	c.timeout, c.sequel, c.first = timeout, then, nil
	c.wait()
	defer c.timer.Stop()

	end, known := i.await(ctx, c, i.send(c, msg))
	if !known && !i.take(c) {
		end = <-c.ended // it came at this moment
	}
	return c.first, end
}

// send registers a call and publishes its message.
func (i *Inbox) send(c *call, msg *nats.Msg) error {
	i.mu.Lock()
	i.registerLocked(c, msg)
	i.mu.Unlock()
	return i.nc.PublishMsg(msg)
}

// await waits until a call whose message was published with err ends. known is whether it has:
// otherwise it is still in flight, and end is why nobody waits for it any more.
func (i *Inbox) await(ctx context.Context, c *call, err error) (end ending, known bool) {
	if err != nil {
		return ending{err: err}, false
	}
	for {
		select {
		case end = <-c.ended:
			return end, true
		case <-ctx.Done():
			return ending{err: ctx.Err()}, false
		case <-c.timer.C:
			if !i.goesOn(c) {
				return ending{err: context.DeadlineExceeded}, false
			}
		}
	}
}

// StoodStill is how late a timer must be to show that this process stood still: it was stopped, or
// its machine was, or had no time for it.
const StoodStill = 100 * time.Millisecond

// goesOn prolongs the wait for a call by as long as the process stood still at its end: the reply
// may have come meanwhile and not be read yet. It reports whether it did.
func (i *Inbox) goesOn(c *call) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	late := min(time.Since(c.due), c.late)
	if late < StoodStill {
		return false
	}
	c.late -= late
	c.due = time.Now().Add(late)
	c.timer.Reset(late)
	return true
}

// wait begins to wait for the call's timeout.
func (c *call) wait() {
	c.due, c.late = time.Now().Add(c.timeout), c.timeout
	c.timer.Reset(c.timeout)
}

// registerLocked adds a call to those in flight and addresses the reply to its message. The
// caller has the lock.
func (i *Inbox) registerLocked(c *call, msg *nats.Msg) {
	i.last++
	i.calls[i.last] = c
	c.token, c.subject = i.last, msg.Subject
	msg.Reply = i.prefix + strconv.FormatUint(c.token, 36)
}

// take removes a call from those in flight. It reports whether it was there.
func (i *Inbox) take(c *call) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	_, ok := i.calls[c.token]
	delete(i.calls, c.token)
	return ok
}

// receive hands a reply to the request that awaits it.
func (i *Inbox) receive(m *nats.Msg) {
	token, err := strconv.ParseUint(m.Subject[len(i.prefix):], 36, 64)
	if err != nil {
		return // it is no reply to a request of ours
	}
	end := ending{reply: m}
	if len(m.Data) == 0 && m.Header.Get("Status") == noResponders {
		end = ending{err: nats.ErrNoResponders}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	c, ok := i.calls[token]
	if !ok {
		return // nobody waits for it any more
	}
	delete(i.calls, token)
	then := c.sequel
	if then == nil || end.err != nil || !then.follows(m) {
		c.ended <- end
		return
	}
	c.sequel, c.first = nil, m
	c.wait()
	i.registerLocked(c, then.msg)
	if err := i.nc.PublishMsg(then.msg); err != nil {
		delete(i.calls, c.token)
		c.ended <- ending{err: err}
	}
}

// noResponders is the status of the reply by which the server says that nobody listens.
const noResponders = "503"

// deniedPublish matches what nats-server reports of a denied publish.
var deniedPublish = regexp.MustCompile(`Permissions Violation for Publish to ("(?:[^"\\]|\\.)*")`)

// deny ends the requests that err denies, and reports whether there are any.
func (i *Inbox) deny(err error) bool {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return false
	}
	m := deniedPublish.FindStringSubmatch(err.Error())
	if m == nil {
		return false
	}
	subject, unquoteErr := strconv.Unquote(m[1])
	if unquoteErr != nil {
		return false
	}
	ended := false
	i.mu.Lock()
	for token, c := range i.calls {
		if c.subject == subject {
			delete(i.calls, token)
			c.ended <- ending{err: err}
			ended = true
		}
	}
	i.mu.Unlock()
	return ended
}
