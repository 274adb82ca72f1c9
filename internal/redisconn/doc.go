// Package redisconn connects to Redis as a URL says: to a single node, through
// Sentinel, or to a Cluster. [Open] is all there is to it, and [Version] asks the
// server what it is.
package redisconn
