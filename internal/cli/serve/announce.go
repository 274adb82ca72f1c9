package serve

import (
	"fmt"

	"github.com/rebound-mq/rebound/internal/cli/terminal"

	natsd "github.com/nats-io/nats-server/v2/server"
)

// announce says what runs where. If the log is JSON the announcement is a log line, so
// that standard error stays JSON.
func (i *instance) announce() {
	a, c, s, web := i.App, i.config, i.session, i.listener.address()
	where := s.URL() + ", nats-server " + s.NC.ConnectedServerVersion()
	if server := i.server; server.Server != nil {
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
	submit := s.Subjects.Submit("<service>", "<operation>")
	if c.LogFormat == "json" {
		i.log.Info("running", "version", a.Version, "nats", where, "http", health, "submit", submit, "policies", policies)
		return
	}
	a.Say("rebound %s is running; stop it with Ctrl-C", a.Version)
	t := terminal.NewTable(a.Stderr)
	t.Row("  NATS", where)
	t.Row("  HTTP", health)
	t.Row("  submit to", submit)
	t.Row("  outcomes on", s.Subjects.Outcomes("", "", ""))
	t.Row("  policies", policies)
	_ = t.Flush()
}
