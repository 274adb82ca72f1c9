// Package deadletter reads, replays and discards dead letters in their stream.
// [Letters] is the access that the service, the client and the command line
// share.
package deadletter
