// Package natspath has the contenders that stand on NATS: Rebound in its forms, the least that its
// JetStream writes cost ("bare"), and what a user could build from the server's own means. All of
// them have the same [harness]: it submits, is the target, and hears of the ends.
package natspath
