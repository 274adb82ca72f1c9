// Package redisconn connects to Redis as a URL says: to a single node, through
// Sentinel, or to a Cluster. Most important is [Open]; [Options] are those of every
// client, and [Version] asks the server what it is.
package redisconn
