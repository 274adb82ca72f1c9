package schemas

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
)

//go:embed *.json asyncapi.yaml
var files embed.FS

const (
	suffix       = ".json"
	asyncAPI     = "asyncapi"
	asyncAPIFile = "asyncapi.yaml"
)

// names lists the schemas, sorted.
var names = sync.OnceValue(func() []string {
	// The directory is embedded, so reading it cannot fail.
	entries, _ := files.ReadDir(".")
	var out []string
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), suffix); ok {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
})

// Names lists the schemas, sorted. The AsyncAPI document is not among them.
func Names() []string { return slices.Clone(names()) }

// Get returns the text of a schema by its name, with or without .json. The name
// asyncapi, with or without .yaml, is the document of [AsyncAPI]. The error of a
// name that is not known is an [*UnknownError].
func Get(name string) ([]byte, error) {
	if name == asyncAPI || name == asyncAPIFile {
		return AsyncAPI(), nil
	}
	name, err := known(name)
	if err != nil {
		return nil, err
	}
	return read(name + suffix), nil
}

// AsyncAPI returns the AsyncAPI 3.0 document of all subjects, as YAML. It refers
// to the schemas by file name.
func AsyncAPI() []byte { return read(asyncAPIFile) }

// Compact returns a schema as JSON on one line, as the metadata of a NATS micro
// endpoint wants it. It panics when there is no such schema: names are written
// into a program and not read.
func Compact(name string) string {
	name, err := known(name)
	if err != nil {
		panic(err)
	}
	var out bytes.Buffer
	if err := json.Compact(&out, read(name+suffix)); err != nil {
		panic(fmt.Errorf("schema %s: %w", name, err))
	}
	return out.String()
}

// known returns the name of a schema without .json.
func known(name string) (string, error) {
	bare := strings.TrimSuffix(name, suffix)
	if _, found := slices.BinarySearch(names(), bare); !found {
		return "", unknown(name)
	}
	return bare, nil
}

// read returns a file that is embedded for certain.
func read(file string) []byte {
	text, err := files.ReadFile(file)
	if err != nil {
		panic(err)
	}
	return text
}
