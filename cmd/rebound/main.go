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
	ctx, stop := interruptible()
	code := run(ctx, newRoot(os.Stdin, os.Stdout, os.Stderr, os.Environ()), os.Args[1:])
	stop()
	os.Exit(code)
}

// interruptible returns a context that ends at the first signal to stop. Before
// it ends the signals have their usual effect again, so that a second one ends
// the process at once.
func interruptible() (ctx context.Context, stop context.CancelFunc) {
	ctx, stop = context.WithCancel(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		select {
		case <-signals:
		case <-ctx.Done():
		}
		signal.Stop(signals)
		stop()
	}()
	return ctx, stop
}
