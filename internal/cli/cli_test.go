package cli

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/handlers"
	"github.com/rebound-mq/rebound/internal/streams"
	"github.com/rebound-mq/rebound/internal/testkit"
	"github.com/rebound-mq/rebound/scheduler/gate"
)

// patience bounds the wait for something that takes well under a second on a
// quiet machine.
const patience = 30 * time.Second

// asProgram makes the test binary behave as the program.
const asProgram = "TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(Main("dev"))
	}
	testkit.Main(m)
}

// unhindered are limits of backpressure that a busy machine does not reach.
var unhindered = gate.Limits{StoreDelay: time.Hour}

// cli runs commands against one server.
type cli struct {
	t   *testing.T
	nc  *nats.Conn
	js  jetstream.JetStream
	env []string
}

// newCLI starts a server with Rebound's streams and no service.
func newCLI(t *testing.T) *cli {
	t.Helper()
	c := bareCLI(t, testkit.Server(t).ClientURL())
	if err := streams.Ensure(t.Context(), c.js, streams.Configs(events.Streams{}, streams.Limits{})); err != nil {
		t.Fatal(err)
	}
	return c
}

func bareCLI(t *testing.T, url string) *cli {
	t.Helper()
	c := &cli{t: t, nc: testkit.Connect(t, url), env: []string{"HOME=" + t.TempDir(), "REBOUND_NATS=" + url}}
	c.js = testkit.JetStream(t, c.nc)
	return c
}

// service starts an instance and stops it when the test ends.
func (c *cli) service() {
	c.t.Helper()
	s, err := handlers.Start(c.t.Context(), c.nc, handlers.Config{Logger: testkit.Logger(c.t), Backpressure: unhindered})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			c.t.Error(err)
		}
	})
}

// result is the result of a command.
type result struct {
	stdout, stderr string
	code           int
}

func (c *cli) run(args ...string) result {
	c.t.Helper()
	return c.runWith("", args...)
}

func (c *cli) runWith(stdin string, args ...string) result {
	c.t.Helper()
	r := c.start(strings.NewReader(stdin), args...)
	return r.wait()
}

// ok runs a command that must succeed and returns its output.
func (c *cli) ok(args ...string) string {
	c.t.Helper()
	r := c.run(args...)
	if r.code != exitOK {
		c.t.Fatalf("rebound %s ended with %d: %s", strings.Join(args, " "), r.code, r.stderr)
	}
	return r.stdout
}

// fails runs a command that must end with that code and one sentence that holds
// what.
func (c *cli) fails(code int, what string, args ...string) {
	c.t.Helper()
	checkFailure(c.t, c.run(args...), code, what)
}

func checkFailure(t *testing.T, r result, code int, what string) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(r.stderr), "\n")
	if last := lines[len(lines)-1]; r.code != code || !strings.HasPrefix(last, "rebound: ") || !strings.Contains(last, what) {
		t.Errorf("it ended with %d and the sentence %q, want %d and %q", r.code, last, code, what)
	}
}

// running is a command under way.
type running struct {
	t              *testing.T
	stdout, stderr *testkit.Buffer
	interrupt      context.CancelFunc
	code           chan int
}

func (c *cli) start(stdin io.Reader, args ...string) *running {
	c.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{t: c.t, stdout: new(testkit.Buffer), stderr: new(testkit.Buffer), interrupt: cancel, code: make(chan int, 1)}
	go func() {
		r.code <- Program{Version: "dev", Environ: c.env, Stdin: stdin, Stdout: r.stdout, Stderr: r.stderr}.Run(ctx, args)
	}()
	c.t.Cleanup(cancel)
	return r
}

func (r *running) wait() result {
	r.t.Helper()
	select {
	case code := <-r.code:
		r.interrupt()
		return result{r.stdout.String(), r.stderr.String(), code}
	case <-time.After(2 * patience):
		r.t.Fatalf("the command does not end; it said %s", r.stderr)
		return result{}
	}
}

// messages returns how many messages a stream holds.
func (c *cli) messages(stream string) int {
	c.t.Helper()
	s, err := c.js.Stream(c.t.Context(), stream)
	if err != nil {
		c.t.Fatal(err)
	}
	return int(s.CachedInfo().State.Msgs)
}

// jsonLines decodes output that has one object per line.
func jsonLines[T any](t *testing.T, output string) []T {
	t.Helper()
	var out []T
	for line := range strings.Lines(output) {
		var v T
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		out = append(out, v)
	}
	return out
}

// TestProgram_NoCommandHidesAFlagOfAll goes through all commands: a flag of the same name as one
// of those that all commands have, such as --token, would hide it.
func TestProgram_NoCommandHidesAFlagOfAll(t *testing.T) {
	root := newRoot(Program{Version: "1.0.0", Stdin: strings.NewReader(""), Stdout: io.Discard, Stderr: io.Discard})
	commands := 0
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		commands++
		cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
			if of := root.PersistentFlags().Lookup(f.Name); of != nil && of.Usage != f.Usage {
				t.Errorf("%s hides --%s, %q, by its own: %q", cmd.CommandPath(), f.Name, of.Usage, f.Usage)
			}
		})
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
	}
	visit(root)
	if commands < 20 || root.PersistentFlags().Lookup("token") == nil {
		t.Errorf("%d commands, and a flag token of all: %v; want at least 20, and one", commands, root.PersistentFlags().Lookup("token"))
	}
}
