package command

import (
	"os"
	"os/user"
	"strings"

	"github.com/rebound-mq/rebound/events"
)

// Operator returns who runs the program, user@host, as far as the operating system knows.
func Operator() string {
	var parts []string
	if u, err := user.Current(); err == nil {
		parts = append(parts, u.Username)
	}
	if host, err := os.Hostname(); err == nil {
		parts = append(parts, host)
	}
	name := strings.Join(parts, "@")
	return name[:min(len(name), events.MaxOperator)]
}
