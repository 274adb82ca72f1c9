// Package handlers holds the edges of the service. [Service] is the service
// itself: it takes submissions from NATS, brings due operations to their
// targets, answers requests, and stops all of it again. Each other file handles
// one kind of message.
package handlers
