package natsconn

import (
	"context"
	"errors"
	"log/slog"
	"regexp"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/time/rate"
)

// denialsEvery is how often a denied publish is logged.
const denialsEvery = time.Minute

// deniedPublish matches what nats-server reports of a denied publish.
var deniedPublish = regexp.MustCompile(`Permissions Violation for Publish to ("(?:[^"\\]|\\.)*")`)

// Denials ends publishes that the server denies. It reports a missing permission apart from
// any answer, naming only the subject, so whoever waits for the answer would wait in vain. A
// nil Denials ends nothing. It is safe for concurrent use.
type Denials struct {
	log  *slog.Logger
	warn rate.Sometimes

	mu       sync.Mutex
	inFlight map[*Publish]struct{} // guarded by mu, and so is denied of each
}

// Publish is a publish whose answer is awaited.
type Publish struct {
	subject string
	cancel  context.CancelFunc
	denied  error
}

// WatchDenials hears the denials of a connection until stop is called.
func WatchDenials(nc *nats.Conn, log *slog.Logger) (denials *Denials, stop func()) {
	d := &Denials{log: log, warn: rate.Sometimes{First: 1, Interval: denialsEvery}, inFlight: make(map[*Publish]struct{})}
	next := nc.ErrorHandler()
	nc.SetErrorHandler(func(on *nats.Conn, sub *nats.Subscription, err error) {
		if on == nc && d.deny(err) {
			return
		}
		if next != nil {
			next(on, sub, err)
		}
	})
	return d, func() { nc.SetErrorHandler(next) }
}

// Begin registers a publish whose answer is awaited. cancel is called if the server denies it.
// The caller calls End when it no longer waits.
func (d *Denials) Begin(subject string, cancel context.CancelFunc) *Publish {
	if d == nil {
		return nil
	}
	p := &Publish{subject: subject, cancel: cancel}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.inFlight[p] = struct{}{}
	return p
}

// End ends the registration and returns the violation that the server reported since Begin,
// nil if there is none.
func (d *Denials) End(p *Publish) error {
	if d == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.inFlight, p)
	return p.denied
}

// deny ends the publishes that err denies, and reports whether there are any.
func (d *Denials) deny(err error) bool {
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
	d.mu.Lock()
	for p := range d.inFlight {
		if p.subject == subject {
			p.denied, ended = err, true
			p.cancel()
		}
	}
	d.mu.Unlock()
	if ended {
		d.warn.Do(func() {
			d.log.Warn("this NATS user may not publish to the target of operations; `rebound doctor` lists what it needs besides", "target", subject)
		})
	}
	return ended
}
