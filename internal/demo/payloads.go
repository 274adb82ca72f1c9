package demo

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/rebound-mq/rebound/events"
	"github.com/rebound-mq/rebound/internal/wording"
)

// The npm package of webhook payloads. The version is fixed so that all runs deliver the same.
const (
	packageName    = "@octokit/webhooks-examples"
	packageVersion = "7.6.1"
	packageIndex   = "package/api.github.com/index.json"
)

const (
	// fetchTimeout bounds how long npm may take.
	fetchTimeout = 20 * time.Second
	// maxPackage bounds the bytes unpacked.
	maxPackage = 64 << 20
	// maxPayload is the largest payload that the embedded server accepts together with headers.
	maxPayload = 900 << 10
)

// payload is the body of one webhook.
type payload struct {
	// event is the kind of the webhook, such as pull_request.
	event string
	data  []byte
}

// collection is a set of payloads and its source.
type collection struct {
	payloads []payload
	source   string
}

// loadPayloads returns the payloads in the directory if one is given, else those of the npm
// package, from the cache or through npm, else made-up ones. It says on o.Out why it makes them up.
func loadPayloads(ctx context.Context, o Options) (collection, error) {
	if o.Payloads != "" {
		payloads, err := readDir(o.Payloads)
		return collection{payloads, o.Payloads}, err
	}
	file := filepath.Join(o.CacheDir, "webhooks-examples-"+packageVersion+".json")
	source := packageName + " " + packageVersion
	if index, err := os.ReadFile(file); err == nil && o.CacheDir != "" {
		// An unreadable cached file is fetched again.
		if payloads, err := readIndex(index); err == nil && len(payloads) > 0 {
			return collection{payloads, source}, nil
		}
	}
	index, err := fetch(ctx, o.Environ, o.Out)
	var payloads []payload
	if err == nil {
		payloads, err = readIndex(index)
	}
	switch {
	case ctx.Err() != nil:
		return collection{}, fmt.Errorf("fetching the payloads: %w", context.Cause(ctx))
	case err != nil:
		fmt.Fprintf(o.Out, "Playing with made-up payloads, because %s %s cannot be fetched: %s. Or give some with --payloads DIR.\n",
			packageName, packageVersion, wording.OneLine(err.Error()))
		return collection{madeUp(o.Seed), "a generator"}, nil
	}
	if o.CacheDir != "" {
		if err := store(file, index); err != nil {
			fmt.Fprintf(o.Out, "The payloads will be fetched again next time, because caching them failed: %s.\n", wording.OneLine(err.Error()))
		}
	}
	return collection{payloads, source}, nil
}

// fetch lets npm download the package and returns its index. It announces that on out, because it
// takes a while.
func fetch(ctx context.Context, environ []string, out io.Writer) ([]byte, error) {
	npm, err := lookNPM(environ)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(out, "Fetching %s %s with npm, once, for at most %s.\n", packageName, packageVersion, fetchTimeout)
	dir, err := os.MkdirTemp("", "rebound-npm-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeoutCause(ctx, fetchTimeout, fmt.Errorf("it took longer than %s", fetchTimeout))
	defer cancel()

	// Only npm's errors are wanted on standard error.
	cmd := exec.CommandContext(ctx, npm, "pack", packageName+"@"+packageVersion, "--pack-destination", dir,
		"--ignore-scripts", "--silent", "--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--loglevel=error")
	cmd.Dir, cmd.Env, cmd.WaitDelay = dir, environ, 2*time.Second
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, npmError(err, said.String())
	}
	archives, err := filepath.Glob(filepath.Join(dir, "*.tgz"))
	if err != nil || len(archives) != 1 {
		return nil, errors.New("npm left no archive")
	}
	f, err := os.Open(archives[0])
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return unpack(f, packageIndex)
}

// lookNPM finds npm in the PATH of environ.
func lookNPM(environ []string) (string, error) {
	names := []string{"npm"}
	if runtime.GOOS == "windows" {
		names = []string{"npm.cmd", "npm.exe"}
	}
	for _, e := range slices.Backward(environ) {
		name, value, _ := strings.Cut(e, "=")
		if !strings.EqualFold(name, "PATH") {
			continue
		}
		for _, dir := range filepath.SplitList(value) {
			for _, name := range names {
				if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil && filepath.IsAbs(path) {
					return path, nil
				}
			}
		}
		break
	}
	return "", errors.New("npm is not installed")
}

// npmError explains why npm failed with its first line that is a sentence, after the codes.
func npmError(err error, said string) error {
	for line := range strings.Lines(said) {
		words := strings.Fields(line)
		if len(words) > 5 && words[0] == "npm" {
			return fmt.Errorf("npm says %.200q", strings.Join(words[3:], " "))
		}
	}
	return fmt.Errorf("npm failed: %w", err)
}

// unpack returns one file of a gzipped tar archive.
func unpack(r io.Reader, name string) ([]byte, error) {
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, fmt.Errorf("unpacking: %w", err)
	}
	files := tar.NewReader(io.LimitReader(z, maxPackage))
	for {
		header, err := files.Next()
		if err != nil {
			return nil, fmt.Errorf("looking for %s in the package: %w", name, err)
		}
		if header.Name == name {
			return io.ReadAll(files)
		}
	}
}

// store writes a file atomically.
func store(file string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	part, err := os.CreateTemp(filepath.Dir(file), ".part-*")
	if err != nil {
		return err
	}
	defer os.Remove(part.Name())
	_, err = part.Write(data)
	if err = errors.Join(err, part.Close()); err != nil {
		return err
	}
	return os.Rename(part.Name(), file)
}

// readIndex reads the format of the npm package: a list of events with examples.
func readIndex(index []byte) ([]payload, error) {
	var list []struct {
		Name     string            `json:"name"`
		Examples []json.RawMessage `json:"examples"`
	}
	if err := json.Unmarshal(index, &list); err != nil {
		return nil, err
	}
	var out []payload
	for _, e := range list {
		if err := events.CheckName(e.Name); err != nil {
			return nil, fmt.Errorf("event name %w", err)
		}
		for i, example := range e.Examples {
			p, err := newPayload(e.Name, example)
			if err != nil {
				return nil, fmt.Errorf("example %d of %s: %w", i+1, e.Name, err)
			}
			out = append(out, p)
		}
	}
	return out, nil
}

// readDir reads every *.json file below dir. A file in a subdirectory belongs to the event named
// by that directory, any other file to the event with which its own name begins:
// push/payload.json and push.1.json are both of the event push. A file may also be an index like
// that of the npm package.
func readDir(dir string) ([]payload, error) {
	if _, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("reading the payloads: %w", err)
	}
	var out []payload
	root := os.DirFS(dir)
	err := fs.WalkDir(root, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.EqualFold(filepath.Ext(path), ".json") {
			return err
		}
		data, err := fs.ReadFile(root, path)
		if err != nil {
			return err
		}
		if payloads, err := readIndex(data); err == nil && len(payloads) > 0 {
			out = append(out, payloads...)
			return nil
		}
		p, err := newPayload(eventOf(path), data)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		out = append(out, p)
		return nil
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading the payloads of %s: %w", dir, err)
	case len(out) == 0:
		return nil, fmt.Errorf("reading the payloads of %s: it holds no *.json file", dir)
	}
	return out, nil
}

// eventOf derives the name of an event from the path of a payload.
func eventOf(path string) string {
	name, _, nested := strings.Cut(path, "/")
	if !nested {
		name, _, _ = strings.Cut(path, ".")
	}
	name = strings.Map(func(r rune) rune {
		if r < 0x80 && events.CheckName("x"+string(r)) == nil {
			return r
		}
		return '_'
	}, strings.TrimLeft(name, "-"))
	if name == "" {
		return "webhook"
	}
	return name[:min(len(name), events.MaxName)]
}

// newPayload checks a payload and removes white space, as the sender of a webhook does.
func newPayload(event string, data []byte) (payload, error) {
	var compact bytes.Buffer
	if err := json.Compact(&compact, data); err != nil {
		return payload{}, fmt.Errorf("it is not valid JSON: %w", err)
	}
	if compact.Len() > maxPayload {
		return payload{}, fmt.Errorf("it has %d bytes, more than the %d that fit into a message", compact.Len(), maxPayload)
	}
	return payload{event, compact.Bytes()}, nil
}
