// Package testkit starts what tests need: real NATS servers in their own processes ([Server],
// [Cluster]), a real Redis ([Redis]), connections to them, a logger that writes to the test's
// log, and a bounded wait ([Eventually]). Everything is stopped and waited for when the test
// ends. Each test reserves its ports ([Port]), so tests of many packages may run at once.
package testkit
