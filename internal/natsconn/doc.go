// Package natsconn connects to NATS as the configuration says. [Conn] is the connection;
// it logs what becomes of it at one place and reconnects for ever. The package also
// answers whether the server can carry the service ([CheckServer]) and how far its clock
// is from ours ([ClockSkew]). A [Waiter] waits at the start for what passes by itself,
// [Dedicated] makes further connections, and a [Clock] tells the server's time.
package natsconn
