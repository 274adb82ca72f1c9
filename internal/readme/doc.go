// Package readme holds only the test that runs the commands and compiles the Go code of
// README.md.
package readme
