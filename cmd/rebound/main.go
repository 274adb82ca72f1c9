// Command rebound is the retry service for NATS: `rebound serve` runs it, and
// the other commands submit operations to it, follow what becomes of them and
// look after the dead letters.
package main

import (
	"os"

	"github.com/rebound-mq/rebound/internal/cli"
)

// version is set by the linker.
var version = "dev"

func main() { os.Exit(cli.Main(version)) }
