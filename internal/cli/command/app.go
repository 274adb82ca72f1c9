// Package command has the common parts of commands: the [App] that they work with,
// the settings in force, the connection, and errors of usage.
package command

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rebound-mq/rebound/internal/config"
	"github.com/rebound-mq/rebound/internal/session"
)

// App is what every command works with: the streams, the environment and the
// version of the program.
type App struct {
	Version string
	// Environ has the form of [os.Environ]; no command reads the process's own.
	Environ        []string
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// Say writes a message to standard error.
func (a *App) Say(layout string, args ...any) {
	fmt.Fprintf(a.Stderr, layout+"\n", args...)
}

// Warn writes a warning to standard error.
func (a *App) Warn(layout string, args ...any) { a.Say("rebound: warning: "+layout, args...) }

// Variable returns the value of an environment variable.
func (a *App) Variable(name string) string {
	for _, e := range a.Environ {
		if value, ok := strings.CutPrefix(e, name+"="); ok {
			return value
		}
	}
	return ""
}

// Configure loads the settings in force. Invalid flags are an error of usage.
func (a *App) Configure(cmd *cobra.Command) (*config.Config, error) {
	c, err := config.Load(cmd.Flags(), a.Environ, "")
	if err != nil {
		return nil, UsageOf(err)
	}
	for _, w := range c.Warnings {
		if c.LogFormat == "json" {
			a.Logger(c).Warn(w)
		} else {
			a.Warn("%s", w)
		}
	}
	return c, nil
}

// Logger returns a log to standard error.
func (a *App) Logger(c *config.Config) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.LogLevel}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(a.Stderr, options))
	}
	return slog.New(slog.NewTextHandler(a.Stderr, options))
}

// Connected runs do with the context of cmd and a connection by the settings.
func (a *App) Connected(cmd *cobra.Command, do func(context.Context, *session.Session) error) error {
	c, err := a.Configure(cmd)
	if err != nil {
		return err
	}
	s, err := session.Connect(cmd.Context(), c, cmd.CommandPath(), a.Logger(c))
	if err != nil {
		return err
	}
	defer s.Close()
	return do(cmd.Context(), s)
}

var semVer = regexp.MustCompile(`^\d+\.\d+\.\d+([-+][0-9A-Za-z.+-]+)?$`)

// SemanticVersion returns a version that NATS micro accepts, which that of a
// development build is not.
func (a *App) SemanticVersion() string {
	if bare := strings.TrimPrefix(a.Version, "v"); semVer.MatchString(bare) {
		return bare
	}
	return "0.0.0+" + notInVersions.ReplaceAllString(a.Version, "-")
}

var notInVersions = regexp.MustCompile(`[^0-9A-Za-z-]`)
