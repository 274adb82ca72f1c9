package cli

import (
	"bytes"
	"strings"
	"testing"

	"github.com/rebound-mq/rebound/events"
)

func TestDeadShow_PrintsEverything(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	id := c.bury(1, "billing", "charge")[0]
	out := c.ok("dead", "show", id)
	for _, want := range []string{
		id, "billing", "charge", "exhausted", "all 2 attempts were made", "retry.submit.billing.charge", "/test",
		"ok.charge", "acme", "override maxattempts", "12.5ms", "3s", "1.5s", "503", "timeout", "http_5xx", "exponential",
		"2 (repeated)", "no reply", "X-Tenant", "t1", "payload, 7 bytes\n{\"n\":0}\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("it lacks %q:\n%s", want, out)
		}
	}
	c.fails(exitFailure, "no such dead letter", "dead", "show", strings.Repeat("0", 32))
	c.fails(exitUsage, "is not an operation id", "dead", "show", "x")
}

func TestDeadShow_PrintsBytesInHex(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	payload := bytes.Repeat([]byte{0x1b, '[', '2', 'J', 0xff, 0}, 100)
	id := c.bury(1, "billing", "charge", func(d *events.DeadLetter) {
		d.Data, d.Truncated, d.Detail = payload, 5000, "evil \x1b[31m"
	})[0]
	out := c.ok("dead", "show", id)
	if !strings.Contains(out, "1b 5b 32 4a") || !strings.Contains(out, "344 more bytes") || !strings.Contains(out, "the first 600 of 5000 bytes") || strings.Contains(out, "\x1b") {
		t.Errorf("it shows\n%q", out)
	}
	if raw := c.ok("dead", "show", id, "--raw"); raw != string(payload) {
		t.Errorf("the raw payload differs: %q", raw)
	}
	if d := jsonLines[events.DeadLetter](t, c.ok("dead", "show", id, "--output", "json")); !bytes.Equal(d[0].Data, payload) {
		t.Errorf("the payload in JSON differs: %q", d[0].Data)
	}
}
