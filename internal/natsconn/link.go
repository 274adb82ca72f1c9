package natsconn

import (
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// linkLookEvery is how old what a [Link] knows of its connection may be.
const linkLookEvery = time.Millisecond

// Link tells whether a connection was up all the time. What it tells was so at most a millisecond
// ago: asking the connection itself takes the lock of whoever publishes. It is safe for concurrent
// use.
type Link struct {
	nc   *nats.Conn
	last atomic.Pointer[linkState]
}

// linkState is what was found at a time.
type linkState struct {
	at         time.Time
	connected  bool
	reconnects uint64
}

// NewLink returns the link of a connection.
func NewLink(nc *nats.Conn) *Link { return &Link{nc: nc} }

// Up reports whether the connection is up, and returns the mark to ask [Link.UpSince] for later:
// how often it came back.
func (l *Link) Up() (mark uint64, up bool) {
	if s := l.last.Load(); s != nil && time.Since(s.at) <= linkLookEvery {
		return s.reconnects, s.connected
	}
	return l.Look()
}

// Look is [Link.Up] as of now: it asks the connection.
func (l *Link) Look() (mark uint64, up bool) {
	s := &linkState{at: time.Now(), connected: l.nc.Status() == nats.CONNECTED, reconnects: l.nc.Stats().Reconnects}
	l.last.Store(s)
	return s.reconnects, s.connected
}

// Reconnects returns how often the connection came back.
func (l *Link) Reconnects() uint64 {
	mark, _ := l.Up()
	return mark
}

// UpSince reports whether the connection is up and was not lost since a mark was taken.
func (l *Link) UpSince(mark uint64) bool {
	now, up := l.Up()
	return up && now == mark
}
