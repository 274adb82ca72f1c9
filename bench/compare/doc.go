// Package compare measures systems that bring failed operations back side by side: a [Contender]
// is started, loaded and stopped in turn with all others, round after round, so that a machine that
// is busy at times is busy for all of them. The contenders themselves are in the packages below.
package compare
