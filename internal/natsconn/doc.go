// Package natsconn connects to NATS as configured. [Conn] is the connection; it reconnects
// for ever, and its state is logged in one place. [CheckServer] checks whether the server can
// carry the service, and [ClockSkew] measures how far its clock is from ours. A [Waiter]
// waits out, at the start, what passes by itself, [Dedicated] makes further connections, and
// a [Clock] estimates the server's time.
package natsconn
