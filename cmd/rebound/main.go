// Command rebound is the retry service for NATS: `rebound serve` runs it, and
// the other commands submit operations to it, follow what becomes of them and
// look after the dead letters.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// version is set by the linker.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the process at once.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, newRoot(os.Stdin, os.Stdout, os.Stderr, os.Environ()), os.Args[1:]))
}
