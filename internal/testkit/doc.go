// Package testkit starts what tests need: real NATS servers as processes of their
// own ([Server], [Cluster]), a real Redis ([Redis]), connections to them, a logger that writes
// into the test, and a bounded wait ([Eventually]). Everything is stopped and
// waited for when the test ends. Ports are chosen by the operating system, so
// tests of many packages may run at once.
package testkit
