package layout

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/rebound-mq/rebound"

// Modules that a package may be forbidden to reach, by the beginning of the path.
const (
	nats       = "github.com/nats-io/nats.go"
	natsServer = "github.com/nats-io/nats-server/"
	redis      = "github.com/redis/go-redis/"
	cloudEvent = "github.com/cloudevents/"
	gopsutil   = "github.com/shirou/gopsutil/"
	cobra      = "github.com/spf13/cobra"
)

// pure packages decide: they do no I/O of their own, so nothing that they reach may.
var pure = []string{"events", "breaker", "health", "scheduler/gate", "scheduler/policy", "scheduler"}

// leaves are small packages of the standard library's kind, which any package may use.
var leaves = []string{"internal/backoff", "internal/clip", "internal/notify", "internal/plainjson", "internal/shrink", "internal/spelling", "internal/strictjson"}

// program is a package as go list tells of it.
type program struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

// name returns the path within the module, and whether it is of the module.
func name(path string) (string, bool) { return strings.CutPrefix(path, module+"/") }

// load lists the packages of the module, by their path within it.
func load(t *testing.T) map[string]program {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports,Deps", module+"/...")
	var problems strings.Builder
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list failed: %v: %s", err, problems.String())
	}
	packages := make(map[string]program)
	decoder := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p program
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatalf("reading what go list printed: %v", err)
		}
		if n, ok := name(p.ImportPath); ok {
			packages[n] = p
		}
	}
}

// reaches returns which of the modules p imports, perhaps through other packages.
func (p program) reaches(modules ...string) (found []string) {
	for _, m := range modules {
		if slices.ContainsFunc(p.Deps, func(d string) bool { return strings.HasPrefix(d, m) }) {
			found = append(found, strings.TrimSuffix(m, "/"))
		}
	}
	return found
}

func TestImports_PurePackagesReachNothingThatDoesIO(t *testing.T) {
	packages := load(t)
	for _, n := range pure {
		p, ok := packages[n]
		if !ok {
			t.Errorf("there is no package %s", n)
			continue
		}
		if found := p.reaches(nats, natsServer, redis, cloudEvent, gopsutil); len(found) > 0 {
			t.Errorf("package %s is pure, but reaches %s", n, strings.Join(found, ", "))
		}
	}
}

func TestImports_ProgramThatUsesTheClientLinksNoServer(t *testing.T) {
	if found := load(t)["client"].reaches(natsServer, redis, gopsutil, cobra); len(found) > 0 {
		t.Errorf("package client reaches %s, which a program that submits operations need not link", strings.Join(found, ", "))
	}
}

func TestImports_PackageThatIsImportedByAllImportsNone(t *testing.T) {
	packages := load(t)
	for _, n := range leaves {
		for _, path := range packages[n].Imports {
			if other, ok := name(path); ok && !slices.Contains(leaves, other) {
				t.Errorf("package %s imports %s, but is one of those that every package may import", n, other)
			}
		}
	}
}

// levels reads from ARCHITECTURE.md which way imports run, lowest first.
func levels(t *testing.T) (order [][]string) {
	t.Helper()
	text, err := os.ReadFile("../../ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile("(?m)^Imports run one way: `([^`]+)`").FindSubmatch(text)
	if line == nil {
		t.Fatal("ARCHITECTURE.md has no line that begins with: Imports run one way: `")
	}
	for _, level := range strings.Split(string(line[1]), " ← ") {
		order = append(order, strings.Split(level, ", "))
	}
	return order
}

// levelOf returns the level of a package, that of the longest name that fits it. A name
// that ends in /… stands for a package and all below it.
func levelOf(order [][]string, n string) (level int, ok bool) {
	best := ""
	for i, names := range order {
		for _, of := range names {
			prefix, whole := strings.CutSuffix(of, "/…")
			fits := n == prefix || whole && strings.HasPrefix(n, prefix+"/")
			if closer := len(prefix) > len(best) || prefix == best && !whole; fits && closer {
				level, ok, best = i, true, prefix
			}
		}
	}
	return level, ok
}

func TestImports_RunOneWay(t *testing.T) {
	packages, order := load(t), levels(t)
	var wrong []string
	for n, p := range packages {
		level, ok := levelOf(order, n)
		if !ok {
			if !slices.Contains(leaves, n) {
				wrong = append(wrong, fmt.Sprintf("ARCHITECTURE.md gives package %s no place in the order of imports", n))
			}
			continue
		}
		for _, path := range p.Imports {
			other, ok := name(path)
			if !ok || slices.Contains(leaves, other) {
				continue
			}
			if below, ok := levelOf(order, other); ok && below > level {
				wrong = append(wrong, fmt.Sprintf("package %s imports %s, which ARCHITECTURE.md puts above it", n, other))
			}
		}
	}
	slices.Sort(wrong)
	for _, w := range wrong {
		t.Error(w)
	}
}

func TestImports_EveryPackageIsInThePicture(t *testing.T) {
	text, err := os.ReadFile("../../ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	_, picture, _ := strings.Cut(string(text), "## Packages\n\n```\n")
	picture, _, ok := strings.Cut(picture, "```")
	if !ok {
		t.Fatal("ARCHITECTURE.md has no picture under the heading Packages")
	}
	packages, shown := load(t), make(map[string]bool)
	for line := range strings.Lines(picture) {
		n, _, _ := strings.Cut(line, " ")
		if shown[n] {
			t.Errorf("ARCHITECTURE.md shows package %s twice", n)
		}
		shown[n] = true
		if _, ok := packages[n]; !ok && n != "bench" {
			t.Errorf("ARCHITECTURE.md shows package %s, which does not exist", n)
		}
	}
	for n := range packages {
		if !shown[n] && !strings.Contains(n, "/examples") && !strings.HasSuffix(n, "/cmd") {
			t.Errorf("ARCHITECTURE.md does not show package %s", n)
		}
	}
}
