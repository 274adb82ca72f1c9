package readme

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/client"
	// The program is built by a test, so only this makes its code part of what a cached result
	// is the result of.
	_ "github.com/rebound-mq/rebound/internal/cli"
	"github.com/rebound-mq/rebound/internal/testkit"
	"github.com/rebound-mq/rebound/scheduler/policy"
)

const (
	root = "../.."
	// natsCLI is the nats command line tool, built for the test.
	natsCLI = "github.com/nats-io/natscli/nats@v0.5.1"
	// commandTimeout guards against a command that hangs.
	commandTimeout = 10 * time.Minute
)

// block is a fenced block of the README.
type block struct{ language, text string }

func blocks(t *testing.T) []block {
	t.Helper()
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	var out []block
	for _, m := range regexp.MustCompile("(?s)```(\\w+)\n(.*?)```").FindAllSubmatch(readme, -1) {
		out = append(out, block{string(m[1]), string(m[2])})
	}
	if len(out) < 5 {
		t.Fatalf("README.md has %d fenced blocks; the test no longer finds them", len(out))
	}
	return out
}

// commands returns the commands in the shell blocks that start with name.
func commands(t *testing.T, name string) []string {
	t.Helper()
	var out []string
	for _, b := range blocks(t) {
		if b.language != "sh" {
			continue
		}
		for line := range strings.Lines(b.text) {
			line, _, _ = strings.Cut(line, "   #")
			if line = strings.TrimSpace(line); strings.HasPrefix(line, name+" ") {
				out = append(out, line)
			}
		}
	}
	return out
}

// inline returns the rebound commands in the text.
func inline(t *testing.T) []string {
	t.Helper()
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, m := range regexp.MustCompile("`(rebound [^`]+)`").FindAllSubmatch(readme, -1) {
		out = append(out, strings.ReplaceAll(string(m[1]), "\n", " "))
	}
	return out
}

func TestREADME_MakeTargetsExist(t *testing.T) {
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range commands(t, "make") {
		target := strings.Fields(c)[1]
		if !bytes.Contains(makefile, []byte("\n"+target+":")) {
			t.Errorf("the README says %q but the Makefile has no target %s", c, target)
		}
	}
}

func TestREADME_GoCodeCompiles(t *testing.T) {
	var code strings.Builder
	code.WriteString(`package main

import (
	"context"
	"errors"
	"log"

	"github.com/nats-io/nats.go"

	"github.com/rebound-mq/rebound/client"
)

var (
	ctx     context.Context
	nc      *nats.Conn
	c       *client.Client
	payload []byte
	charge  func(context.Context, []byte) (string, error)
)

var _, _ = errors.Is, log.Printf

func main() {}
`)
	n := 0
	for _, b := range blocks(t) {
		if b.language == "go" {
			n++
			fmt.Fprintf(&code, "\nfunc block%d() (err error) {\n%s\nreturn nil\n}\n", n, b.text)
		}
	}
	if n == 0 {
		t.Fatal("the README has no Go code")
	}
	file := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(file, []byte(code.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "vet", "-unreachable=false", file)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("the README's Go code does not compile: %v\n%s", err, out)
	}
}

func TestREADME_CommandsRun(t *testing.T) {
	bin := t.TempDir()
	install(t, bin, natsCLI)
	run(t, nil, 5*time.Minute, "go", "build", "-o", bin, "github.com/rebound-mq/rebound/cmd/rebound")
	addr := testkit.Addr(t)
	url := "nats://" + addr
	home := t.TempDir()
	for _, b := range blocks(t) {
		if name, ok := strings.CutPrefix(strings.SplitN(b.text, "\n", 2)[0], "# "); ok && b.language == "yaml" {
			if err := os.WriteFile(filepath.Join(home, name), []byte(b.text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	at := "cd " + home + " && "
	env := append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "NATS_URL="+url, "HOME="+home,
		"XDG_CONFIG_HOME="+home, "XDG_STATE_HOME="+home, "XDG_CACHE_HOME="+home)

	background(t, env, bin+"/rebound", "serve", "--listen", addr, "--http", "off")
	testkit.Eventually(t, 30*time.Second, "the service being ready", func() bool {
		nc, err := nats.Connect(url)
		if err != nil {
			return false
		}
		defer nc.Close()
		_, err = nc.Request("rebound.status", nil, time.Second)
		return err == nil
	})
	waits := regexp.MustCompile(`^(nats (sub|reply|stream view)|rebound outcomes|rebound serve) `)
	all := append(commands(t, "nats"), inline(t)...)
	all = append(all, commands(t, "rebound")...)
	if len(all) < 12 {
		t.Fatalf("found only %d commands: %q", len(all), all)
	}
	for _, c := range all {
		switch {
		case strings.HasPrefix(c, "nats reply "): // a target, as long as the others run
			background(t, env, "sh", "-c", at+"exec "+c)
		case strings.HasPrefix(c, "rebound serve"), c == "rebound doctor":
			run(t, env, commandTimeout, "sh", "-c", strings.Split(c, " --")[0]+" --help")
		case waits.MatchString(c):
			// These run until interrupted: being ended by the time limit is fine.
			ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
			cmd := exec.CommandContext(ctx, "sh", "-c", at+"exec "+c)
			cmd.Env = env
			cmd.WaitDelay = time.Second
			out, err := cmd.CombinedOutput()
			if ctx.Err() == nil && err != nil {
				t.Errorf("%q ended with %v:\n%s", c, err, out)
			}
			cancel()
		default:
			run(t, env, commandTimeout, "sh", "-c", at+c)
		}
	}
	quickStart(t, url)
}

// quickStart checks that what the quick start submits ends as the text says.
func quickStart(t *testing.T, url string) {
	t.Helper()
	c, err := client.New(t.Context(), client.Config{Conn: testkit.Connect(t, url)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ends := map[string]int{} // how often an operation of the target ended so
	for o, err := range c.Outcomes(ctx, client.OutcomeFilter{Service: "billing", Operation: "charge", Since: time.Now().Add(-time.Hour)}) {
		if err != nil {
			t.Fatal(err)
		}
		ends[o.Name()+" "+o.Target]++
		if ends["retrySuccess billing.charge"] >= 3 && ends["retrySuccess billing.charge.v2"] == 1 && ends["retryFailed billing.charge"] >= 1 {
			return
		}
	}
	t.Errorf("the quick start ended in %v, want three successes of billing.charge with the replay, one of billing.charge.v2 and a dead letter", ends)
}

func TestREADME_DelayOfTheQuickStartIsThatOfTheDefaults(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	p := policy.Builtin().Resolve(policy.Query{Service: "billing", Operation: "charge"})
	if !strings.Contains(string(readme), "comes back in about a second") || p.BaseDelay != time.Second || p.NoResponders != policy.AwaitResponders {
		t.Errorf("the README does not say that operations come back in about a second and wait for a target, or they do not by default: %v, %v", p.BaseDelay, p.NoResponders)
	}
}

func run(t *testing.T, env []string, within time.Duration, name string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = env
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s %q ended with %v:\n%s", name, args, err, out)
	}
}

// background starts a command and kills it at the end of the test.
func background(t *testing.T, env []string, name string, args ...string) {
	t.Helper()
	var out bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = env, &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s wrote:\n%s", name, out.String())
		}
	})
}

func install(t *testing.T, bin, pkg string) {
	t.Helper()
	run(t, append(os.Environ(), "GOBIN="+bin), 8*time.Minute, "go", "install", pkg)
}
