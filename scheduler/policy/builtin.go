package policy

import (
	_ "embed"
	"sync"
)

//go:embed builtin.yaml
var builtin []byte

// Builtin returns the built-in policies: the original design's
// DEFAULT_RETRY_CONFIGS, two services that it names without values, and a
// default. [Set.Source] of it is their file, which says why they are as they
// are.
func Builtin() *Set { return parsedBuiltin() }

var parsedBuiltin = sync.OnceValue(func() *Set {
	set, err := parse(nil, BuiltinFile, builtin)
	if err != nil {
		panic(err) // the file is a constant, and a test reads it
	}
	return set
})
