// Package embedded runs a NATS server with JetStream inside this process. [Start] returns a
// running [Server] once its streams are recovered and its port accepts connections. A lock on the
// store directory keeps two processes from writing the same files.
package embedded
