package policy

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/rebound-mq/rebound/events"
)

func TestParse_FileMayBeWrittenInSeveralWays(t *testing.T) {
	for name, src := range map[string]string{
		"YAML in blocks":             "billing:\n  baseDelay: 1500\n  priority: high\n",
		"YAML in flow":               "billing: {baseDelay: 1.5s, priority: high}",
		"JSON":                       `{"billing": {"baseDelay": 1500, "priority": "HIGH"}}`,
		"a byte order mark":          "\ufeffbilling: {baseDelay: 1500, priority: high}",
		"lines that end with CR LF":  "billing:\r\n  baseDelay: 1500\r\n  priority: high\r\n",
		"a document marker, a tab":   "---\nbilling:\n  baseDelay: 1500\t# a comment\n  priority: high\n...\n",
		"quoted values":              "billing: {baseDelay: \"1500\", priority: 'high'}",
		"a serviceType that repeats": "billing: {serviceType: billing, baseDelay: 1500, priority: high}",
	} {
		p := parsed(t, src).Resolve(Query{Service: "billing"})
		if p.BaseDelay != 1500*time.Millisecond || p.Priority != events.High {
			t.Errorf("%s: base delay %s and priority %s, want 1.5s and high", name, p.BaseDelay, p.Priority)
		}
	}
}

func TestParse_FileWithoutPoliciesLeavesTheBuiltInOnes(t *testing.T) {
	for _, src := range []string{"", "# only a comment\n", "null", "{}"} {
		set := parsed(t, src)
		if got, want := set.Resolve(Query{Service: "analytics"}), Builtin().Resolve(Query{Service: "analytics"}); !reflect.DeepEqual(got, want) {
			t.Errorf("after %q analytics has\n%+v, want\n%+v", src, got, want)
		}
		if set.Name() != "p.yaml" || string(set.Source()) != src {
			t.Errorf("after %q the set is named %q with source %q", src, set.Name(), set.Source())
		}
	}
}

func TestParse_KeepsNothingOfTheCallers(t *testing.T) {
	src := []byte("billing: {maxAttempts: 7}")
	set, err := Parse("p.yaml", src)
	if err != nil {
		t.Fatal(err)
	}
	copy(src, "xxxxxxx")
	if got := string(set.Source()); got != "billing: {maxAttempts: 7}" {
		t.Errorf("Source() is %q after the caller changed its slice", got)
	}
}

func TestLoadFile_ReadsPoliciesOrSaysWhyNot(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "policies.yaml")
	if err := os.WriteFile(path, []byte("billing: {maxAttempts: 7}"), 0o600); err != nil {
		t.Fatal(err)
	}
	set, err := LoadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := set.Resolve(Query{Service: "billing"}).MaxAttempts; got != 7 || set.Name() != path {
		t.Errorf("the set %q has %d attempts, want %q and 7", set.Name(), got, path)
	}
	if _, err := LoadFile(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there gives %v, want fs.ErrNotExist", err)
	}
	if _, err := LoadFile(dir); err == nil {
		t.Error("a directory was read as a policy file")
	}
	if err := os.WriteFile(path, make([]byte, 2*MaxSource), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadFile(path); len(Issues(err)) != 1 || !strings.Contains(err.Error(), "is larger than") {
		t.Errorf("a file of 2 MiB gives %v, want the issue that it is too large", err)
	}
}

// hostile are files of about n bytes that aim at superlinear work.
var hostile = map[string]func(n int) string{
	"unknown keys":            func(n int) string { return "a:\n" + numberedLines(n, "  maxAttempt%013d: 1\n") },
	"repeated keys":           func(n int) string { return "a:\n" + strings.Repeat("  maxAttempts: 1\n", n/17) },
	"services":                func(n int) string { return numberedLines(n, "s%014d: {}\n") },
	"accounts":                func(n int) string { return "a:\n  accounts:\n" + numberedLines(n, "    u%06d: {}\n") },
	"dependencies in a chain": chain,
	"dependencies of all on all": func(n int) string {
		services := int(math.Sqrt(float64(n) / 6))
		var all, b strings.Builder
		for i := range services {
			fmt.Fprintf(&all, "s%d, ", i)
		}
		for i := range services {
			fmt.Fprintf(&b, "s%d: {dependsOn: [%s]}\n", i, all.String())
		}
		return b.String()
	},
	"a circle of all": func(n int) string {
		return chain(n) + fmt.Sprintf("s%d: {dependsOn: [s0]}\n", strings.Count(chain(n), "\n"))
	},
	"dependencies of one": func(n int) string { return "a:\n  dependsOn:\n" + numberedLines(n, "  - b%010d\n") },
	"aliases":             func(n int) string { return "a: &a {}\nb: [" + strings.Repeat("*a, ", n/4) + "]\n" },
	"a deep name": func(n int) string {
		return "a: {operations: {b: {accounts: {" + strings.Repeat("x", 1000) + ": {" + strings.Repeat("z: 1, ", n/6) + "}}}}}"
	},
	"escapes": func(n int) string { return "a: {target: \"" + strings.Repeat(`\n`, n/2) + "\"}" },
}

func numberedLines(n int, line string) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, line, i)
	}
	return b.String()
}

func chain(n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "s%d: {dependsOn: [s%d]}\n", i, i+1)
	}
	return b.String()
}

// TestParse_TimeGrowsWithTheFile compares the allocations for a file and for
// one eight times as large: were the work quadratic, they would differ by 64.
func TestParse_TimeGrowsWithTheFile(t *testing.T) {
	for name, file := range hostile {
		cost := func(n int) float64 {
			src := []byte(file(n))
			return testing.AllocsPerRun(1, func() { _, _ = Parse("p.yaml", src) })
		}
		small, large := cost(8_000), cost(64_000)
		if large > 16*small+10_000 {
			t.Errorf("%s: eight times the file costs %.0f allocations in place of %.0f, want at most 16 times as many", name, large, small)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	for name, file := range hostile {
		src := []byte(file(MaxSource / 2))
		b.Run(strings.ReplaceAll(name, " ", "-"), func(b *testing.B) {
			b.SetBytes(int64(len(src)))
			for b.Loop() {
				_, _ = Parse("p.yaml", src)
			}
		})
	}
	b.Run("1000-policies", func(b *testing.B) {
		src := []byte(thousandPolicies())
		b.SetBytes(int64(len(src)))
		for b.Loop() {
			if _, err := Parse("p.yaml", src); err != nil {
				b.Fatal(err)
			}
		}
	})
}
