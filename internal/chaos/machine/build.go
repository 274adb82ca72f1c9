package machine

import (
	"context"
	"fmt"
	"os/exec"
)

// The packages of the programs.
const (
	Program    = "github.com/rebound-mq/rebound/cmd/rebound"
	NATSServer = "github.com/nats-io/nats-server/v2"
)

// Build builds the program of a package of this module or of one of its dependencies.
func Build(ctx context.Context, output, from string) error {
	if text, err := exec.CommandContext(ctx, "go", "build", "-o", output, from).CombinedOutput(); err != nil {
		return fmt.Errorf("building %s: %w\n%s", from, err, text)
	}
	return nil
}
