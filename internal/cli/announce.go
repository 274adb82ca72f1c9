package cli

import (
	"fmt"
	"log/slog"

	natsd "github.com/nats-io/nats-server/v2/server"
)

// announce tells what runs where. With a log in JSON it is a line of the log, so
// that standard error stays JSON.
func (a *app) announce(s *session, server ownServer, web string, log *slog.Logger) {
	c := s.config
	where := s.url() + ", nats-server " + s.nc.ConnectedServerVersion()
	if server.Server != nil {
		where = fmt.Sprintf("%s, embedded nats-server %s, files in %s", server.ClientURL(), natsd.VERSION, c.StoreDir)
	}
	policies := "built-in"
	if c.Policies != "" {
		policies = c.Policies
	}
	health := "off"
	if web != "" {
		health = "http://" + web + "/healthz and /readyz"
	}
	submit := s.subjects.Submit("<service>", "<operation>")
	if c.LogFormat == "json" {
		log.Info("running", "version", a.version, "nats", where, "http", health, "submit", submit, "policies", policies)
		return
	}
	a.say("rebound %s is running; stop it with Ctrl-C", a.version)
	t := newTable(a.stderr)
	t.row("  NATS", where)
	t.row("  HTTP", health)
	t.row("  submit to", submit)
	t.row("  outcomes on", s.subjects.Outcomes("", "", ""))
	t.row("  policies", policies)
	_ = t.flush()
}
