package policy

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// LoadFile reads the policy file at path; see [Parse].
func LoadFile(path string) (*Set, error) {
	src, err := readFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the policy file: %w", err)
	}
	return Parse(path, src)
}

// readFile reads no more of the file than tells that it is too large.
func readFile(path string) (src []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return io.ReadAll(io.LimitReader(f, MaxSource+1))
}
