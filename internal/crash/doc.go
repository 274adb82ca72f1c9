// Package crash holds no code, only the test that kills the real program again
// and again under load and checks that nothing is lost or told twice.
package crash
