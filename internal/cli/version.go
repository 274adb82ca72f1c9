package cli

import (
	"fmt"
	"runtime"

	"github.com/rebound-mq/rebound/internal/cli/command"
	"github.com/rebound-mq/rebound/internal/cli/flags"
	"github.com/rebound-mq/rebound/internal/cli/terminal"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"
)

// versions are the versions of this program and of what it is built with.
type versions struct {
	Rebound    string `json:"rebound"`
	Go         string `json:"go"`
	Platform   string `json:"platform"`
	NATSServer string `json:"natsServer"`
	NATSClient string `json:"natsClient"`
}

type versionOptions struct {
	*command.App
	output *flags.Output
}

func versionCommand(a *command.App) *cobra.Command {
	o := versionOptions{App: a}
	cmd := &cobra.Command{
		Use: "version", Short: "Print the version", Args: command.NoArgs,
		RunE: func(*cobra.Command, []string) error { return o.run() },
	}
	o.output = flags.OutputVar(cmd)
	return cmd
}

func (o *versionOptions) run() error {
	v := versions{o.Version, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH, natsd.VERSION, nats.Version}
	if o.output.JSON() {
		return terminal.WriteJSON(o.Stdout, v)
	}
	_, err := fmt.Fprintf(o.Stdout, "rebound %s (%s, %s, embedded nats-server %s)\n", v.Rebound, v.Go, v.Platform, v.NATSServer)
	return err
}
