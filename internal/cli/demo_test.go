package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rebound-mq/rebound/internal/demo"
)

// runDemo runs `rebound demo` and returns its exit code and what it wrote.
func runDemo(t *testing.T, environ []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	program := Program{Version: "dev", Environ: environ, Stdin: strings.NewReader(""), Stdout: &out, Stderr: &err}
	code = program.Run(context.Background(), append([]string{"demo"}, args...))
	return code, out.String(), err.String()
}

func TestDemo_RefusesInvalidInput(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		code int
		want string
	}{
		"fewer than no operations": {[]string{"--operations", "-1"}, exitUsage, "--operations -1 is less than 0"},
		"no time":                  {[]string{"--timeout", "0s"}, exitUsage, "--timeout 0s is not more than 0s"},
		"an argument":              {[]string{"x"}, exitUsage, "demo takes no arguments"},
		"an unknown output":        {[]string{"--output", "xml"}, exitUsage, "xml"},
		"an empty directory":       {[]string{"--payloads", t.TempDir()}, exitFailure, "it holds no *.json file"},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := runDemo(t, []string{"HOME=" + t.TempDir(), "PATH=/nowhere"}, c.args...)
			if code != c.code || stdout != "" || !strings.Contains(stderr, c.want) || strings.Count(stderr, "\n") != 1 {
				t.Errorf("exit code %d, output %q, error %q; want code %d and one line with %q", code, stdout, stderr, c.code, c.want)
			}
		})
	}
}

func TestDemo_FailsWhenItsTimeIsUp(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "push.json"), []byte(`{"ref": "x"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := runDemo(t, nil, "--payloads", dir, "--operations", "400", "--timeout", "1s", "--output", "json")
	var s demo.Summary
	if err := json.Unmarshal([]byte(stdout), &s); err != nil {
		t.Fatalf("standard output is not the summary alone: %v\n%s", err, stdout)
	}
	if code != exitFailure || s.Submitted == 0 || s.Stopped == "" || len(s.Faults) > 0 {
		t.Errorf("exit code %d with the summary %+v", code, s)
	}
	if !strings.Contains(stderr, "not every operation has ended") || !strings.Contains(stderr, "the target is healthy") {
		t.Errorf("standard error is %s", stderr)
	}
}
