// Package redisconn connects to Redis by URL: to a single node, through Sentinel, or to a
// Cluster. [Open] returns the client, [Options] adjusts the options of any client, and [Version]
// asks for the server's version.
package redisconn
