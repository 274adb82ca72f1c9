// Package doctor checks whether the service can run with given settings, and how it runs.
// [Diagnose] makes every check and changes nothing.
package doctor

import (
	"context"
	"log/slog"
	"net"
	"strconv"

	"github.com/rebound-mq/rebound/internal/config"
	"github.com/rebound-mq/rebound/internal/session"
)

// The verdicts of a check.
const (
	OK   = "ok"
	Warn = "warn"
	Fail = "fail"
)

// Finding is the result of one check.
type Finding struct {
	Status string `json:"status"`
	Check  string `json:"check"`
	// Found says what was found, and Advice what to do about it.
	Found  string `json:"found"`
	Advice string `json:"advice,omitempty"`
}

// Diagnosis is the result of all checks.
type Diagnosis struct {
	OK       bool      `json:"ok"`
	File     string    `json:"file,omitempty"`
	Settings []Setting `json:"settings"`
	Findings []Finding `json:"findings"`
}

// Setting is a setting in force and its source.
type Setting struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Source string `json:"source"`
}

// Failed is how many checks failed.
func (d *Diagnosis) Failed() int {
	failed := 0
	for _, f := range d.Findings {
		if f.Status == Fail {
			failed++
		}
	}
	return failed
}

func (d *Diagnosis) add(status, check, found, advice string) {
	d.Findings = append(d.Findings, Finding{status, check, found, advice})
}

// Diagnose makes every check that earlier ones allow.
func Diagnose(ctx context.Context, c *config.Config, log *slog.Logger) *Diagnosis {
	d := &Diagnosis{File: c.File}
	for _, v := range c.Values() {
		d.Settings = append(d.Settings, Setting{v.Key, v.Value, v.Source})
	}
	d.configuration(c)
	d.redis(ctx, c, log)
	s, err := session.Connect(ctx, doctorConfig(c), "rebound doctor", log)
	if err != nil {
		d.unreachable(ctx, c, err)
	} else {
		defer s.Close()
		d.server(ctx, s, c)
	}
	d.OK = d.Failed() == 0
	return d
}

// doctorConfig points the doctor to the address of the embedded server.
func doctorConfig(c *config.Config) *config.Config {
	if !c.Embedded() {
		return c
	}
	host, port := c.ListenHostPort()
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	url, err := config.ParseURL("nats://" + net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return c
	}
	own := *c
	own.NATS = []config.URL{url}
	return &own
}
