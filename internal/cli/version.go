package cli

import (
	"fmt"
	"regexp"
	"runtime"
	"strings"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"
)

// versions are of this program and of what it is built with.
type versions struct {
	Rebound    string `json:"rebound"`
	Go         string `json:"go"`
	Platform   string `json:"platform"`
	NATSServer string `json:"natsServer"`
	NATSClient string `json:"natsClient"`
}

func (a *app) versionCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "version", Short: "Print the version", Args: noArgs}
	output := outputVar(cmd)
	cmd.RunE = func(*cobra.Command, []string) error {
		v := versions{a.version, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH, natsd.VERSION, nats.Version}
		if output.value == asJSON {
			return writeJSON(a.stdout, v)
		}
		_, err := fmt.Fprintf(a.stdout, "rebound %s (%s, %s, embedded nats-server %s)\n", v.Rebound, v.Go, v.Platform, v.NATSServer)
		return err
	}
	return cmd
}

var semVer = regexp.MustCompile(`^\d+\.\d+\.\d+([-+][0-9A-Za-z.+-]+)?$`)

// semantic makes the version one that NATS micro takes, which a development
// build's is not.
func semantic(version string) string {
	if bare := strings.TrimPrefix(version, "v"); semVer.MatchString(bare) {
		return bare
	}
	return "0.0.0+" + notInVersions.ReplaceAllString(version, "-")
}

var notInVersions = regexp.MustCompile(`[^0-9A-Za-z-]`)
