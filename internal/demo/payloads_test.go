package demo

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

const smallIndex = `[
  {"name": "push", "description": "x", "examples": [{"ref": "refs/heads/main"}, {"ref": "ü <&>"}]},
  {"name": "star", "examples": [{"action":"created"}]}
]`

// files creates a directory with files.
func files(t *testing.T, content map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range content {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func load(ctx context.Context, o Options) (collection, error) {
	if err := o.check(); err != nil {
		return collection{}, err
	}
	return loadPayloads(ctx, o)
}

func shown(of []payload) []string {
	var out []string
	for _, p := range of {
		out = append(out, p.event+" "+string(p.data))
	}
	slices.Sort(out)
	return out
}

func TestPayloads_AreReadFromADirectory(t *testing.T) {
	dir := files(t, map[string]string{
		"issues.opened.json":          `{ "action": "opened" }`,
		"check_run/completed.v2.json": `[1, 2]`,
		"my event!.json":              `"x"`,
		"-.json":                      `null`,
		"index.json":                  smallIndex,
		"README.md":                   "no payload",
		"list.json":                   `[]`,
	})
	got, err := load(context.Background(), Options{Payloads: dir})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`check_run [1,2]`, `issues {"action":"opened"}`, `list []`, `my_event_ "x"`,
		`push {"ref":"refs/heads/main"}`, `push {"ref":"ü <&>"}`, `star {"action":"created"}`, `webhook null`,
	}
	if !slices.Equal(shown(got.payloads), want) || got.source != dir {
		t.Errorf("the payloads are %q from %s, want %q", shown(got.payloads), got.source, want)
	}
}

func TestPayloads_InvalidOnesAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"no file":     {nil, "holds no *.json file"},
		"no JSON":     {map[string]string{"a.json": "{"}, "a.json: it is not valid JSON"},
		"too large":   {map[string]string{"a.json": `"` + strings.Repeat("x", maxPayload) + `"`}, "a.json: it has 921602 bytes"},
		"other files": {map[string]string{"a.txt": "{}"}, "holds no *.json file"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := load(context.Background(), Options{Payloads: files(t, c.files)})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("the error is %v, want one with %q", err, c.want)
			}
		})
	}
	if _, err := load(context.Background(), Options{Payloads: filepath.Join(t.TempDir(), "nowhere")}); err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("the error of a missing directory is %v", err)
	}
}

// npm returns a PATH with an npm that runs script.
func npm(t *testing.T, script string) []string {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("the stand-in for npm is a shell script")
	}
	dir := files(t, map[string]string{"npm": "#!/bin/sh\n" + script})
	if err := os.Chmod(filepath.Join(dir, "npm"), 0o700); err != nil {
		t.Fatal(err)
	}
	return []string{"PATH=" + dir + string(os.PathListSeparator) + os.Getenv("PATH")}
}

// archive makes a package such as npm downloads.
func archive(t *testing.T, name, content string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, f := range []struct{ name, content string }{{"package/package.json", "{}"}, {name, content}} {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Mode: 0o600, Size: int64(len(f.content))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(f.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(files(t, map[string]string{"x.tgz": b.String()}), "x.tgz")
}

func TestPayloads_PackageIsFetchedOnceAndThenCached(t *testing.T) {
	tgz, cache := archive(t, packageIndex, smallIndex), filepath.Join(t.TempDir(), "rebound")
	environ := npm(t, fmt.Sprintf(`[ "$1 $2" = "pack %s@%s" ] && cp '%s' "$4"`, packageName, packageVersion, tgz))
	for _, environ := range [][]string{environ, {"PATH=/nowhere"}} {
		got, err := load(context.Background(), Options{CacheDir: cache, Environ: environ})
		if err != nil {
			t.Fatal(err)
		}
		if len(got.payloads) != 3 || got.source != packageName+" "+packageVersion {
			t.Errorf("there are %d payloads from %s, want 3", len(got.payloads), got.source)
		}
	}
	file := filepath.Join(cache, "webhooks-examples-"+packageVersion+".json")
	if err := os.WriteFile(file, []byte("cut o"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := load(context.Background(), Options{CacheDir: cache, Environ: environ}); err != nil || len(got.payloads) != 3 {
		t.Errorf("with a damaged cache there are %d payloads, and the error %v", len(got.payloads), err)
	}
}

func TestPayloads_AreMadeUpWithoutThePackage(t *testing.T) {
	offline := `echo "npm error code ENOTFOUND" >&2
echo "npm error syscall getaddrinfo" >&2
echo "npm error network request to https://registry.npmjs.org/x failed, reason: getaddrinfo ENOTFOUND" >&2
exit 1`
	for name, c := range map[string]struct {
		environ func(t *testing.T) []string
		want    string
	}{
		"no npm":     {func(*testing.T) []string { return []string{"PATH=/nowhere"} }, "npm is not installed"},
		"no PATH":    {func(*testing.T) []string { return nil }, "npm is not installed"},
		"no network": {func(t *testing.T) []string { return npm(t, offline) }, "request to https://registry.npmjs.org/x failed"},
		"no words":   {func(t *testing.T) []string { return npm(t, "exit 3") }, "exit status 3"},
		"no archive": {func(t *testing.T) []string { return npm(t, "exit 0") }, "npm left no archive"},
		"another package": {func(t *testing.T) []string {
			return npm(t, fmt.Sprintf(`cp '%s' "$4"`, archive(t, "package/other.json", "[]")))
		}, "looking for " + packageIndex},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			got, err := load(context.Background(), Options{CacheDir: t.TempDir(), Environ: c.environ(t), Out: &out, Seed: 3})
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(shown(got.payloads), shown(madeUp(3))) || got.source != "a generator" {
				t.Errorf("there are %d payloads from %s, want those made up", len(got.payloads), got.source)
			}
			_, said, _ := strings.Cut("\n"+out.String(), "\nPlaying with made-up payloads")
			if !strings.Contains(said, c.want) || !strings.Contains(said, "--payloads DIR") || strings.Count(said, "\n") != 1 {
				t.Errorf("the output is %q, want one line with %q and --payloads DIR", &out, c.want)
			}
		})
	}
}

func TestPayloads_FetchingEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	begun := time.Now()
	if _, err := load(ctx, Options{CacheDir: t.TempDir(), Environ: npm(t, "exec sleep 20")}); err == nil {
		t.Error("there is no error")
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestMadeUp_PayloadsDifferInSizeAndShapeAndRepeatBySeed(t *testing.T) {
	small, large, types := 0, 0, make(map[string]bool)
	all := madeUp(1)
	for _, p := range all {
		again, err := newPayload(p.event, p.data)
		if err != nil || !bytes.Equal(again.data, p.data) {
			t.Fatalf("payload %.80s is not compact JSON that fits: %v", p.data, err)
		}
		if len(p.data) < 500 {
			small++
		}
		if len(p.data) > 10_000 {
			large++
		}
		types[operationType(p.event)] = true
	}
	if small < 10 || large < 10 || len(types) != len(operationTypes) {
		t.Errorf("of %d payloads %d are small and %d large, of %d operation types; want 10, 10 and %d", len(all), small, large, len(types), len(operationTypes))
	}
	if !slices.Equal(shown(all), shown(madeUp(1))) || slices.Equal(shown(all), shown(madeUp(2))) {
		t.Error("the payloads do not depend on the seed alone")
	}
}
