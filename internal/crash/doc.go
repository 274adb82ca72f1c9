// Package crash holds only the test that kills the real program repeatedly under load and checks
// that nothing is lost and no outcome is published twice.
package crash
