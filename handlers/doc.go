// Package handlers holds the edges of the service. [Service] takes in submissions from
// NATS, delivers due operations to their targets, answers requests, and shuts all of
// it down. Each other file handles one kind of message.
package handlers
