// Package nodejs tests the Node.js programs in this directory, which submit operations and follow
// how they end with only a NATS client and the CloudEvents SDK.
package nodejs

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rebound-mq/rebound/client"
	"github.com/rebound-mq/rebound/client/examples/internal/rig"
	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// npmPatience bounds how long npm may take to fetch a few megabytes.
const npmPatience = 3 * time.Minute

// programs installs the programs in a temporary directory.
func programs(t *testing.T) (dir string) {
	t.Helper()
	if _, err := exec.LookPath("npm"); err != nil && os.Getenv("CI") == "" {
		t.Skip("npm is not installed, which comes with Node.js 20")
	}
	dir = t.TempDir()
	sources, err := filepath.Glob("*.mjs")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(sources, "package.json") {
		source, err := os.ReadFile(file)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, file), source, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), npmPatience)
	defer cancel()
	run(ctx, t, dir, "npm", "install", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--loglevel=error")
	return dir
}

// run runs a command and returns what it prints.
func run(ctx context.Context, t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(ctx, name, args...)
	var out, said bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &said
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %q: %v\n%s%s", name, args, err, &out, &said)
	}
	return out.String()
}

func TestNode_SubmitsAndFollows(t *testing.T) {
	dir := programs(t)
	nc := rig.Start(t, "billing: {baseDelay: 10ms}")
	c := rig.Client(t, nc)
	redelivered := make(chan *client.Request, 10)
	worker, err := c.StartWorker(rig.Context(t), client.WorkerConfig{Service: "billing", Operation: "charge"}, func(_ context.Context, r *client.Request) error {
		redelivered <- r
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := worker.Stop(rig.Context(t)); err != nil {
			t.Errorf("stopping the worker: %v", err)
		}
	})
	decisions, err := nc.SubscribeSync(events.Subjects{}.Events(events.RetryScheduled, "billing", "charge"))
	if err != nil {
		t.Fatal(err)
	}

	var want []string
	for _, mode := range []string{"binary", "structured"} {
		args := []string{"submit.mjs", "--nats", nc.ConnectedUrl(), "billing", "charge", `{"amount":12,"name":"Zoë"}`}
		if mode == "structured" {
			args = slices.Insert(args, 1, "--structured")
		}
		id, rest, _ := strings.Cut(run(rig.Context(t), t, dir, "node", args...), " ")
		if rest != "is stored in RETRY_INTAKE\n" {
			t.Errorf("%s: submit.mjs printed %q after the id, want where it is stored", mode, rest)
		}
		want = append(want, fmt.Sprintf("billing:charge %s ended in rebound.retrySuccess.v1 after 2 attempts", id))

		m, err := decisions.NextMsgWithContext(rig.Context(t))
		if err != nil {
			t.Fatal(err)
		}
		var decision events.Scheduled
		if err := json.Unmarshal(m.Data, &decision); err != nil {
			t.Fatal(err)
		}
		if got := decision.Error; decision.EventID != id || got.Code != "503" || got.Message != "the card processor is away" {
			t.Errorf("%s: %s failed with %+v, want %s with the error of submit.mjs", mode, decision.EventID, got, id)
		}
		select {
		case r := <-redelivered:
			checkPayload(t, mode, r)
		case <-rig.Context(t).Done():
			t.Fatalf("%s: the operation is not redelivered within %v", mode, rig.Patience)
		}
	}

	printed := run(rig.Context(t), t, dir, "node", "subscribe.mjs", "--nats", nc.ConnectedUrl(), "--all", "--count", "2")
	if got := strings.Split(strings.TrimSpace(printed), "\n"); !slices.Equal(got, want) {
		t.Errorf("subscribe.mjs printed\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// checkPayload checks that a redelivered operation is as Node.js submitted it.
func checkPayload(t *testing.T, mode string, r *client.Request) {
	t.Helper()
	data := r.Data
	if mode == "structured" {
		var event struct {
			Source string          `json:"source"`
			Data   json.RawMessage `json:"data"`
		}
		if err := json.Unmarshal(r.Data, &event); err != nil {
			t.Fatal(err)
		}
		if event.Source != "/examples/nodejs" {
			t.Errorf("structured: the event's source is %q, want /examples/nodejs", event.Source)
		}
		data = event.Data
	} else if got := r.Header.Get("ce-source"); got != "/examples/nodejs" {
		t.Errorf("binary: the event's source is %q, want /examples/nodejs", got)
	}
	if string(data) != `{"amount":12,"name":"Zoë"}` || r.Attempt != 2 {
		t.Errorf("%s: attempt %d has the payload %s, want attempt 2 with the submitted payload", mode, r.Attempt, data)
	}
}
