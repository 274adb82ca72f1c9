// Package peers has the contenders that are other projects' queues: asynq on Redis and River on
// PostgreSQL. Of each, one process submits the work and does it, and another is the server. A server
// starts with its packaged program, in a directory of its own and, as far as figures go, with its
// default settings.
package peers
