package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/internal/testkit"
	"github.com/rebound-mq/rebound/schemas"
)

func TestSubmit_ReachesTheTargetWithItsAttributes(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	c.service()
	got := make(chan *nats.Msg, 10)
	if _, err := c.nc.Subscribe("shop.charge", func(m *nats.Msg) {
		got <- m
		_ = m.Respond(nil)
	}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "payload")
	if err := os.WriteFile(file, []byte("\x00\xffbytes"), 0o600); err != nil {
		t.Fatal(err)
	}
	id := strings.TrimSpace(c.ok("submit", "billing", "charge", "--file", file, "--id", "inv 1%", "--source", "/shop",
		"--target", "shop.charge", "--priority", "high", "--attempt", "2", "--error-code", "503", "--error-message", "away\nnow",
		"--deadline", "10m", "--retry-after", "10ms", "--account", "a1", "--campaign", "c1", "--header", "X-Tenant=t=1", "--set", "maxAttempts=4"))
	if want := events.OperationID("/shop", "inv 1%", "billing", "charge"); id != want {
		t.Errorf("id %q, want %q", id, want)
	}
	select {
	case m := <-got:
		for name, want := range map[string]string{
			"Retry-Id": id, "Retry-Attempt": "3", "X-Tenant": "t=1", "ce-priority": "high", "ce-errorcode": "503",
			"ce-accountid": "a1", "ce-campaignid": "c1", "ce-maxattempts": "4",
		} {
			if have := m.Header.Get(name); have != want {
				t.Errorf("header %s is %q, want %q", name, have, want)
			}
		}
		if string(m.Data) != "\x00\xffbytes" {
			t.Errorf("payload %q", m.Data)
		}
	case <-time.After(patience):
		t.Fatal("nothing was redelivered")
	}
}

func TestSubmit_WithoutAServiceStoresTheSubmission(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	r := c.run("submit", "billing", "charge", "--id", "1", "--output", "json")
	answers := jsonLines[schemas.Submitted](t, r.stdout)
	if r.code != 0 || len(answers) != 1 || answers[0].Stream != "RETRY_INTAKE" || !strings.Contains(r.stderr, "no service answers") {
		t.Fatalf("%+v", r)
	}
	if again := jsonLines[schemas.Submitted](t, c.ok("submit", "billing", "charge", "--id", "1", "--output", "json")); !again[0].Duplicate || again[0].ID != answers[0].ID {
		t.Errorf("the same submission again: %+v", again)
	}
	if n := c.messages("RETRY_INTAKE"); n != 1 {
		t.Errorf("%d messages are stored", n)
	}
}

func TestSubmit_RefusesInvalidInput(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	c.service()
	big := filepath.Join(t.TempDir(), "big")
	if err := os.WriteFile(big, make([]byte, 8<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		code int
		what string
		args []string
	}{
		"a payload over the maximum":     {exitFailure, "more than the server's maximum of 1048576", []string{"a", "b", "--file", big}},
		"a missing file":                 {exitFailure, "reading the payload", []string{"a", "b", "--file", big + "no"}},
		"a forbidden target":             {exitFailure, "belongs to the server", []string{"a", "b", "--target", "$SYS.x"}},
		"a long attribute":               {exitFailure, "more than the 1024 allowed", []string{"a", "b", "--target", strings.Repeat("x", 10_000)}},
		"a service with a dot":           {exitUsage, `SERVICE "a.b" has the character '.'`, []string{"a.b", "c"}},
		"one argument":                   {exitUsage, "takes 2 arguments, not 1", []string{"a"}},
		"an attempt of zero":             {exitUsage, "--attempt 0", []string{"a", "b", "--attempt", "0"}},
		"an unknown override":            {exitUsage, `"size" cannot be overridden by an operation`, []string{"a", "b", "--set", "size=1"}},
		"an unknown priority":            {exitUsage, "none of critical, high, normal, low", []string{"a", "b", "--priority", "huge"}},
		"a reserved header":              {exitUsage, "is not for submissions", []string{"a", "b", "--header", "Nats-Msg-Id=1"}},
		"a deadline that is none":        {exitUsage, "--deadline", []string{"a", "b", "--deadline", "soon"}},
		"two payloads":                   {exitUsage, "two payloads", []string{"a", "b", "--data", "x", "--file", big}},
		"flags of one with many":         {exitUsage, "--id is for a single operation", []string{"-", "--id", "x"}},
		"arguments beside --stdin-lines": {exitUsage, "name service and operation themselves", []string{"a", "b", "--stdin-lines"}},
	} {
		t.Run(name, func(t *testing.T) {
			checkFailure(t, c.run(append([]string{"submit"}, tc.args...)...), tc.code, tc.what)
		})
	}
}

func TestSubmitLines_ReportsTheRefusedOnes(t *testing.T) {
	t.Parallel()
	for _, served := range []bool{true, false} {
		t.Run(fmt.Sprintf("with a service: %v", served), func(t *testing.T) {
			c := newCLI(t)
			if served {
				c.service()
			}
			input := strings.Join([]string{
				`{"service":"billing","operation":"charge","id":"1","errorCode":403,"data":{ "a": "<&>" }}`,
				``,
				`{"specversion":"1.0","id":"2","source":"/x","type":"rebound.operation.failed.v1","service":"billing","operation":"charge","errorcode":"403","datacontenttype":"text/plain","data":"tea\n"}`,
				`{"specversion":"1.0","id":"3","source":"/x","type":"t","service":"billing","operation":"charge","errorcode":"403","data_base64":"AP8="}`,
				`no json`,
				`{"service":"bil ling","operation":"charge"}`,
				`{"service":"billing","operation":"charge","target":"_INBOX.x"}`,
				`{"specversion":"1.0","source":"/x","type":"t","service":"billing","operation":"charge"}`,
				`{"service":"billing","operation":"charge","priority":{}}`,
				`{"service":"billing","operation":"charge","id":"4","errorCode":403}`,
			}, "\n")
			r := c.runWith(input, "submit", "-", "--output", "json")
			checkFailure(t, r, exitFailure, "refused lines: 5-9")
			results := jsonLines[struct{ Line int }](t, r.stdout)
			if len(results) != 9 || !strings.Contains(r.stderr, "4 operations submitted, 5 refused") {
				t.Errorf("%d results; %s", len(results), r.stderr)
			}
			if served {
				c.checkPayloads(map[string]string{"1": `{ "a": "<&>" }`, "2": "tea\n", "3": "\x00\xff", "4": ""})
			} else if n := c.messages("RETRY_INTAKE"); n != 4 {
				t.Errorf("%d messages are stored", n)
			}
		})
	}
}

// checkPayloads waits for dead letters with those event ids and payloads.
func (c *cli) checkPayloads(want map[string]string) {
	c.t.Helper()
	testkit.Eventually(c.t, patience, "all dead letters", func() bool { return c.messages("RETRY_DEAD") == len(want) })
	for _, d := range jsonLines[struct{ ID string }](c.t, c.ok("dead", "list", "--output", "json")) {
		letter := jsonLines[events.DeadLetter](c.t, c.ok("dead", "show", d.ID, "--output", "json"))[0]
		payload, known := want[letter.State.EventID]
		if raw := c.ok("dead", "show", d.ID, "--raw"); !known || raw != payload {
			c.t.Errorf("operation %q has the payload %q, want %q", letter.State.EventID, raw, payload)
		}
	}
}

func TestSubmitLines_TakesManyAndRefusesOneTooLong(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	var input strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&input, "{\"service\":\"s\",\"operation\":\"o\",\"id\":\"%d\"}\n", i)
	}
	input.WriteString(`{"service":"s","operation":"o","data":"` + strings.Repeat("x", 4<<20) + "\"}\n")
	input.WriteString(`{"service":"s","operation":"o","id":"last"}`)
	r := c.runWith(input.String(), "submit", "--stdin-lines")
	checkFailure(t, r, exitFailure, "refused lines: 5001")
	if n := c.messages("RETRY_INTAKE"); n != 5001 {
		t.Errorf("%d messages are stored; %s", n, r.stderr)
	}
}

// endless is an input that never ends and blocks after its first line.
type endless struct {
	ctx   context.Context
	first string
}

func (e *endless) Read(p []byte) (int, error) {
	if e.first == "" {
		<-e.ctx.Done()
		return 0, e.ctx.Err()
	}
	n := copy(p, e.first)
	e.first = e.first[n:]
	return n, nil
}

func TestSubmitLines_SaysWhereItWasInterrupted(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	r := c.start(&endless{t.Context(), `{"service":"s","operation":"o"}` + "\n"}, "submit", "-")
	testkit.Eventually(t, patience, "the first line is stored", func() bool { return c.messages("RETRY_INTAKE") == 1 })
	r.interrupt()
	checkFailure(t, r.wait(), exitFailure, "interrupted after line 1")
}

func TestSubmit_ReachesOnlyTheServiceOfItsPrefix(t *testing.T) {
	t.Parallel()
	c := newCLI(t)
	other, err := handlers.Start(t.Context(), c.nc, handlers.Config{Prefix: "other", Logger: testkit.Logger(t), Backpressure: unhindered})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := other.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	c.fails(exitFailure, "no service answers", "status")
	if r := c.run("submit", "billing", "charge"); r.code != exitOK || !strings.Contains(r.stderr, "no service answers") || c.messages("RETRY_INTAKE") != 1 {
		t.Errorf("submitting ended with %d and %q, want the submission waiting in RETRY_INTAKE", r.code, r.stderr)
	}
	if r := c.run("submit", "billing", "charge", "--prefix", "other"); r.code != exitOK || strings.Contains(r.stderr, "no service answers") {
		t.Errorf("submitting with the prefix ended with %d and %q", r.code, r.stderr)
	}
	status := jsonLines[schemas.Status](t, c.ok("status", "--output", "json", "--prefix", "other"))
	if len(status) != 1 || status[0].Instance != other.ID() {
		t.Errorf("the status with the prefix is %+v, want that of instance %s", status, other.ID())
	}
}
